#include "base/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "base/config_file.h"
#include "base/config_impl.h"

namespace cyllm {
namespace {

// "must be ..." and, unless it is a secret, what it was.
Status BadValue(const std::string& where, const SettingInfo& info, const SettingTarget& target,
                std::string_view value) {
  std::string message = fmt::format("{}: must be {}", where, target.Allowed());
  if (!info.secret && !value.empty()) message += fmt::format(", not \"{}\"", value);
  return InvalidArgument(std::move(message));
}

std::string WithPrefix(const EnvVar& variable, bool list, std::string_view value) {
  if (variable.prefix.empty()) return std::string(value);
  std::vector<std::string> elements = list ? SplitList(value) : std::vector{std::string(value)};
  for (auto& element : elements) {
    if (!element.starts_with(variable.prefix)) element = variable.prefix + element;
  }
  return JoinWords(elements, ",");
}

}  // namespace

void Settings::Impl::Add(SettingInfo info, std::unique_ptr<SettingTarget> target) {
  auto setting = std::make_unique<Setting>();
  setting->default_text = target->Text();
  setting->info = std::move(info);
  setting->target = std::move(target);
  settings.push_back(std::move(setting));
}

Settings::Impl::Setting* Settings::Impl::FindKey(const std::string& key) {
  const auto it = std::ranges::find_if(settings, [&](const auto& s) { return s->info.key == key; });
  return it == settings.end() ? nullptr : it->get();
}

Settings::Impl::Setting* Settings::Impl::FindFlag(const std::string& flag) {
  const auto it = std::ranges::find_if(settings, [&](const auto& s) { return s->info.flag == flag; });
  return it == settings.end() ? nullptr : it->get();
}

std::vector<std::string> Settings::Impl::KnownFlags() const {
  std::vector<std::string> known;
  for (const auto& s : settings) {
    if (!s->info.flag.empty()) known.push_back(s->info.flag);
  }
  if (!config_variables.empty()) known.push_back("--config");
  for (const char* flag : {"--check-config", "--print-config", "--help"}) known.push_back(flag);
  return known;
}

std::vector<std::string> Settings::Impl::KnownKeys(bool json) const {
  std::vector<std::string> known;
  if (json) {
    for (const auto& [file_key, key] : json_keys) known.push_back(file_key);
  }
  for (const auto& s : settings) known.push_back(s->info.key);
  return known;
}

Status Settings::Impl::TakePositional(const std::string& word) {
  for (auto& p : positionals) {
    if (p.given) continue;
    p.given = true;
    *p.target = word;
    return Status::Ok();
  }
  return InvalidArgument(
      fmt::format("unexpected word \"{}\"; {} --help shows what is allowed", word, command));
}

Result<Settings::Impl::CommandLine> Settings::Impl::ReadArgs(const std::vector<std::string>& args) {
  CommandLine line;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (!arg.starts_with("-") || arg == "-") {
      if (Status s = TakePositional(arg); !s.ok()) return Err(s);
      continue;
    }
    const size_t equals = arg.find('=');
    const std::string flag = arg.substr(0, equals);
    std::optional<std::string> value;
    if (equals != std::string::npos) value = arg.substr(equals + 1);
    const auto take_next = [&] {
      if (!value && i + 1 < args.size() && !args[i + 1].starts_with("--")) value = args[++i];
      return value.has_value();
    };
    if (flag == "--help" || flag == "-h") {
      line.help = true;
    } else if (flag == "--check-config") {
      line.check_config = true;
    } else if (flag == "--print-config") {
      line.print_config = true;
    } else if (flag == "--config" && !config_variables.empty()) {
      if (!take_next() || value->empty()) return Err(InvalidArgument("flag --config: needs a FILE"));
      line.config_path = *value;
    } else if (Setting* setting = FindFlag(flag)) {
      if (setting->target->IsBool()) {
        if (!value) value = "true";
      } else if (!take_next()) {
        return Err(
            InvalidArgument(fmt::format("flag {}: needs a value, {}", flag, setting->target->Allowed())));
      }
      line.flags.push_back({setting, *value});
    } else if (const auto it = std::ranges::find(ignored_flags, flag, &Named::name);
               it != ignored_flags.end()) {
      if (it->takes_value) take_next();
      warnings.push_back(fmt::format("flag {} has no effect: {}", flag, it->why));
    } else {
      return Err(InvalidArgument(
          fmt::format("unknown flag {}; known flags: {}", flag, JoinWords(KnownFlags(), ", "))));
    }
  }
  return line;
}

Status Settings::Impl::ApplyFile(const std::string& path) {
  const auto entries = ReadConfigFile(path);
  if (!entries) return entries.error();
  const bool json = IsJsonFile(path);
  std::set<const Setting*> seen;
  for (const auto& entry : *entries) {
    const std::string line = entry.line > 0 ? fmt::format(", line {}", entry.line) : "";
    const std::string where = fmt::format("file {}{}, key {}", path, line, entry.path);
    const auto mapped = json ? json_keys.find(entry.path) : json_keys.end();
    Setting* setting = FindKey(mapped == json_keys.end() ? entry.path : mapped->second);
    if (!setting) {
      const auto it = std::ranges::find(ignored_keys, entry.path, &Named::name);
      if (it == ignored_keys.end()) {
        return InvalidArgument(
            fmt::format("{}: unknown key; known keys: {}", where, JoinWords(KnownKeys(json), ", ")));
      }
      warnings.push_back(fmt::format("{} has no effect: {}", where, it->why));
      continue;
    }
    if (!seen.insert(setting).second) {
      return InvalidArgument(fmt::format("{}: sets {} a second time", where, setting->info.key));
    }
    const auto* text = std::get_if<std::string>(&entry.value);
    if (json && text && TrimBlanks(*text).empty()) continue;  // "" is unset in the contract's files
    if (!setting->target->FromFile(entry.value)) {
      return BadValue(where, setting->info, *setting->target, text ? *text : "");
    }
    setting->origin = fmt::format("file {}{}", path, line);
  }
  return Status::Ok();
}

Status Settings::Impl::ApplyEnv(const Env& env) {
  for (const auto& setting : settings) {
    for (const EnvVar& variable : setting->info.env) {
      const auto raw = env(variable.name);
      if (!raw) continue;
      const std::string_view value = TrimBlanks(*raw);
      if (value.empty()) continue;
      SettingTarget& target = *setting->target;
      if (!target.FromText(WithPrefix(variable, target.IsList(), value))) {
        return BadValue("variable " + variable.name, setting->info, target, value);
      }
      setting->origin = "variable " + variable.name;
      break;
    }
  }
  const auto is_set = [&](const std::string& name) {
    const auto raw = env(name);
    return raw && !TrimBlanks(*raw).empty();
  };
  for (const auto& refused : refused_variables) {
    if (is_set(refused.name)) {
      return InvalidArgument(fmt::format("variable {}: {}", refused.name, refused.why));
    }
  }
  for (const auto& ignored : ignored_variables) {
    if (is_set(ignored.name)) {
      warnings.push_back(fmt::format("variable {} has no effect: {}", ignored.name, ignored.why));
    }
  }
  return Status::Ok();
}

Status Settings::Impl::ApplyFlags(const std::vector<GivenFlag>& flags) {
  std::map<Setting*, std::string> values;
  for (const auto& [setting, value] : flags) {
    const auto [it, first] = values.try_emplace(setting, value);
    if (!first) it->second = setting->target->IsList() ? it->second + "," + value : value;
  }
  for (const auto& [setting, value] : values) {
    if (!setting->target->FromText(value)) {
      return BadValue("flag " + setting->info.flag, setting->info, *setting->target, value);
    }
    setting->origin = "flag " + setting->info.flag;
  }
  return Status::Ok();
}

Status Settings::Impl::RunChecks() const {
  for (const auto& check : checks) {
    if (Status s = check(); !s.ok()) return s;
  }
  return Status::Ok();
}

Settings::Settings(std::string command, std::string description) : impl_(std::make_unique<Impl>()) {
  impl_->command = std::move(command);
  impl_->description = std::move(description);
}
Settings::~Settings() = default;

void Settings::Add(SettingInfo info, std::string* target) {
  auto made = MakeTarget(info, target);
  impl_->Add(std::move(info), std::move(made));
}
void Settings::Add(SettingInfo info, int64_t* target, int64_t min, int64_t max) {
  impl_->Add(std::move(info), MakeTarget(target, min, max));
}
void Settings::Add(SettingInfo info, double* target, double min, double max) {
  impl_->Add(std::move(info), MakeTarget(target, min, max));
}
void Settings::Add(SettingInfo info, bool* target) { impl_->Add(std::move(info), MakeTarget(target)); }
void Settings::Add(SettingInfo info, std::vector<std::string>* target) {
  auto made = MakeTarget(info, target);
  impl_->Add(std::move(info), std::move(made));
}
void Settings::AddPositional(std::string name, std::string help, std::string* target, bool required) {
  impl_->positionals.push_back({std::move(name), std::move(help), target, required, false});
}
void Settings::IgnoreKey(std::string key, std::string why) {
  impl_->ignored_keys.push_back({std::move(key), std::move(why), false});
}
void Settings::IgnoreVariable(std::string name, std::string why) {
  impl_->ignored_variables.push_back({std::move(name), std::move(why), false});
}
void Settings::IgnoreFlag(std::string flag, bool takes_value, std::string why) {
  impl_->ignored_flags.push_back({std::move(flag), std::move(why), takes_value});
}
void Settings::RefuseVariable(std::string name, std::string why) {
  impl_->refused_variables.push_back({std::move(name), std::move(why), false});
}
void Settings::ConfigFileFrom(std::vector<std::string> variables) {
  impl_->config_variables = std::move(variables);
}
void Settings::JsonKeys(std::map<std::string, std::string> keys) { impl_->json_keys = std::move(keys); }
void Settings::AddCheck(std::function<Status()> check) { impl_->checks.push_back(std::move(check)); }

Result<Settings::Action> Settings::Load(const std::vector<std::string>& args, const Env& env) {
  auto line = impl_->ReadArgs(args);
  if (!line) return Err(line.error());
  if (line->help) {
    impl_->output = Help();
    return Action::kExitOk;
  }
  for (const auto& p : impl_->positionals) {
    if (p.required && !p.given)
      return Err(InvalidArgument(fmt::format("{} is missing ({})", p.name, p.help)));
  }
  std::string path = line->config_path;
  for (const auto& name : impl_->config_variables) {
    if (!path.empty()) break;
    path = TrimBlanks(env(name).value_or(""));
  }
  if (!path.empty()) {
    if (Status s = impl_->ApplyFile(path); !s.ok()) return Err(s);
  }
  if (Status s = impl_->ApplyEnv(env); !s.ok()) return Err(s);
  if (Status s = impl_->ApplyFlags(line->flags); !s.ok()) return Err(s);
  if (line->print_config) {
    impl_->output = Print();
    return Action::kExitOk;
  }
  if (Status s = impl_->RunChecks(); !s.ok()) return Err(s);
  if (line->check_config) {
    impl_->output = "configuration ok\n";
    for (const auto& warning : impl_->warnings) impl_->output += "warning: " + warning + "\n";
    return Action::kExitOk;
  }
  return Action::kRun;
}

const std::string& Settings::output() const { return impl_->output; }
const std::vector<std::string>& Settings::warnings() const { return impl_->warnings; }

std::vector<SettingInfo> Settings::All() const {
  std::vector<SettingInfo> all;
  for (const auto& s : impl_->settings) all.push_back(s->info);
  return all;
}

std::optional<std::string> ProcessEnv(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value ? std::optional<std::string>(value) : std::nullopt;
}

}  // namespace cyllm
