// How settings are shown: --print-config, --help, and the table of docs/configuration.md.
#include <fmt/format.h>

#include <algorithm>

#include "base/config_impl.h"

namespace cyllm {
namespace {

std::string SectionOf(const std::string& key) {
  const size_t dot = key.rfind('.');
  return dot == std::string::npos ? "" : key.substr(0, dot);
}

std::string VariablesOf(const SettingInfo& info, std::string_view separator) {
  std::vector<std::string> names;
  for (const auto& variable : info.env) names.push_back(variable.name);
  return JoinWords(names, separator);
}

// Words of `text` in lines of at most `width` columns, the following lines indented.
std::string Wrap(std::string_view text, size_t indent, size_t width) {
  std::string out;
  size_t column = indent;
  while (!text.empty()) {
    const size_t space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    if (column + word.size() + 1 > width && column > indent) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (!out.empty()) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
  }
  return out;
}

std::string HelpLine(const std::string& name, const std::string& text) {
  constexpr size_t kColumn = 28;
  constexpr size_t kWidth = 100;
  std::string line = "  " + name;
  if (line.size() + 2 > kColumn) {
    line += "\n" + std::string(kColumn, ' ');
  } else {
    line.resize(kColumn, ' ');
  }
  return line + Wrap(text, kColumn, kWidth) + "\n";
}

std::string EscapeCell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  return text;
}

std::string Backticked(std::string_view text) { return text.empty() ? "" : fmt::format("`{}`", text); }

}  // namespace

std::string Settings::Print() const {
  std::vector<std::string> sections{""};
  for (const auto& s : impl_->settings) {
    const std::string section = SectionOf(s->info.key);
    if (std::ranges::find(sections, section) == sections.end()) sections.push_back(section);
  }
  std::string out;
  for (const auto& section : sections) {
    if (!section.empty()) out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", section);
    for (const auto& s : impl_->settings) {
      if (SectionOf(s->info.key) != section) continue;
      const std::string name = section.empty() ? s->info.key : s->info.key.substr(section.size() + 1);
      const bool hidden = s->info.secret && !s->target->Text().empty();
      out += fmt::format("{} = {}  # {}\n", name, hidden ? "\"***\"" : s->target->Toml(), s->origin);
    }
  }
  return out;
}

std::string Settings::Help() const {
  std::string usage = "Usage: " + impl_->command;
  for (const auto& p : impl_->positionals) usage += p.required ? " " + p.name : " [" + p.name + "]";
  std::string out = usage + " [options]\n\n" + Wrap(impl_->description, 0, 100) + "\n\n";
  for (const auto& p : impl_->positionals) out += HelpLine(p.name, p.help);
  out += "Options:\n";
  std::string only_elsewhere;
  for (const auto& s : impl_->settings) {
    std::vector<std::string> notes;
    if (!s->info.choices.empty()) notes.push_back("one of " + JoinWords(s->info.choices, ", "));
    if (!s->default_text.empty() && !s->target->IsBool()) notes.push_back("default " + s->default_text);
    if (!s->info.env.empty()) notes.push_back("variable " + VariablesOf(s->info, ", "));
    const std::string text =
        notes.empty() ? s->info.help : fmt::format("{} ({})", s->info.help, JoinWords(notes, "; "));
    if (s->info.flag.empty()) {
      only_elsewhere += HelpLine(s->info.key, text);
    } else {
      out += HelpLine(s->info.metavar.empty() ? s->info.flag : s->info.flag + " " + s->info.metavar, text);
    }
  }
  if (!impl_->config_variables.empty()) {
    out +=
        HelpLine("--config FILE", "Read settings from FILE: TOML, or JSON when it ends in .json (variable " +
                                      JoinWords(impl_->config_variables, ", ") + ")");
  }
  out += HelpLine("--check-config", "Check the configuration and exit");
  out += HelpLine("--print-config", "Show every setting with its value and where that came from, and exit");
  out += HelpLine("--help", "Show this and exit");
  if (!only_elsewhere.empty()) out += "\nIn the file or by variable only:\n" + only_elsewhere;
  return out;
}

std::string Settings::Markdown() const {
  std::string out = "| Key in the file | Flag | Variables | Default | Meaning |\n|---|---|---|---|---|\n";
  for (const auto& s : impl_->settings) {
    std::vector<std::string> variables;
    for (const auto& variable : s->info.env) variables.push_back(Backticked(variable.name));
    const std::string flag =
        s->info.metavar.empty() || s->info.flag.empty() ? s->info.flag : s->info.flag + " " + s->info.metavar;
    std::string help = s->info.help;
    if (!s->info.choices.empty()) help += " (" + JoinWords(s->info.choices, ", ") + ")";
    out += fmt::format("| {} | {} | {} | {} | {} |\n", Backticked(s->info.key), Backticked(EscapeCell(flag)),
                       JoinWords(variables, ", "), Backticked(EscapeCell(s->default_text)), EscapeCell(help));
  }
  return out;
}

}  // namespace cyllm
