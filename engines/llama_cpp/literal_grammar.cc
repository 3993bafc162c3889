#include "llama_cpp/literal_grammar.h"

namespace cyllm::llama {

namespace {

constexpr size_t kMaxTexts = 10'000;
constexpr size_t kMaxBytes = 4 << 10;  // of each

std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace

std::optional<std::string> LiteralGrammar(std::span<const std::string_view> texts, std::string* error) {
  *error = "from 1 to " + std::to_string(kMaxTexts) + " texts are expected";
  if (texts.empty() || texts.size() > kMaxTexts) return std::nullopt;
  *error = "each text must have from 1 to " + std::to_string(kMaxBytes) + " bytes";
  std::string out = "root ::= ";
  for (const std::string_view text : texts) {
    if (text.empty() || text.size() > kMaxBytes) return std::nullopt;
    if (!out.ends_with("= ")) out += " | ";
    out += Quoted(text);
  }
  return out;
}

}  // namespace cyllm::llama
