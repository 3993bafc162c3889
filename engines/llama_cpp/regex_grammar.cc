#include "llama_cpp/regex_grammar.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <utility>

#include "sdk/engine.hpp"

namespace cyllm::llama {

namespace {

constexpr size_t kMaxBytes = 4 << 10;
constexpr int kMaxDepth = 64;  // of groups
constexpr uint32_t kMaxRepetition = 10'000;

// Of valid UTF-8.
std::u32string CodePoints(std::string_view text) {
  std::u32string out;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if ((byte & 0xC0) == 0x80) {
      out.back() = out.back() << 6 | (byte & 0x3F);
    } else {
      const int bits = byte < 0x80 ? 0x7F : byte < 0xE0 ? 0x1F : byte < 0xF0 ? 0x0F : 0x07;
      out += static_cast<char32_t>(byte & bits);
    }
  }
  return out;
}

bool IsDigit(char32_t c) { return c >= '0' && c <= '9'; }
bool IsLetter(char32_t c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// As it is written in GBNF's strings and classes.
std::string Written(char32_t c) {
  if (IsDigit(c) || IsLetter(c)) return std::string(1, static_cast<char>(c));
  char out[11];
  std::snprintf(out, sizeof out, "\\U%08X", static_cast<unsigned>(c));
  return out;
}

// What stands in GBNF's brackets for an escape like \d; null: it is none.
const char* ClassOf(char32_t escaped) {
  switch (escaped) {
    case 'd':
      return "0-9";
    case 'D':
      return R"(\x00-\x2F\x3A-\U0010FFFF)";
    case 's':
      return R"(\x09-\x0D\x20)";
    case 'S':
      return R"(\x00-\x08\x0E-\x1F\x21-\U0010FFFF)";
    case 'w':
      return R"(0-9A-Z_a-z)";
    case 'W':
      return R"(\x00-\x2F\x3A-\x40\x5B-\x5E\x60\x7B-\U0010FFFF)";
    default:
      return nullptr;
  }
}

// Every function leaves at_ behind what it read and writes it to out_; false after the first mistake.
class Translator {
 public:
  explicit Translator(std::u32string text) : text_(std::move(text)) {}

  bool Run() {
    out_ = "root ::= ";
    if (!Alternatives(0)) return false;
    return at_ == text_.size() || Fail("a ')' too much");
  }

  std::string Take() { return std::move(out_); }
  std::string error() const { return error_ + " (at character " + std::to_string(at_ + 1) + ")"; }

 private:
  char32_t Peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : U'\0'; }
  bool AtEnd() const { return at_ >= text_.size(); }
  bool Fail(std::string what) {
    error_ = std::move(what);
    return false;
  }
  bool Skip(std::u32string_view expected) {
    if (std::u32string_view(text_).substr(at_, expected.size()) != expected) return false;
    at_ += expected.size();
    return true;
  }

  bool Alternatives(int depth) {
    do {
      if (!Sequence(depth)) return false;
      if (Peek() == '|') out_ += "| ";
    } while (Skip(U"|"));
    return true;
  }

  bool Sequence(int depth) {
    if (depth == 0) Skip(U"^");
    out_ += "\"\" ";
    while (!AtEnd() && Peek() != '|' && Peek() != ')') {
      if (depth == 0 && Peek() == '$' && (at_ + 1 == text_.size() || Peek(1) == '|')) {
        ++at_;
        continue;
      }
      if (!Atom(depth) || !Repetition()) return false;
      out_ += ' ';
    }
    return true;
  }

  bool Atom(int depth) {
    const char32_t c = Peek();
    switch (c) {
      case '(':
        return Group(depth + 1);
      case '[':
        return Class();
      case '.':
        ++at_;
        out_ += R"([^\n])";
        return true;
      case '^':
      case '$':
        return Fail("'^' and '$' are known at the ends of the whole text only");
      case '*':
      case '+':
      case '?':
        return Fail("there is nothing to repeat");
      case '{':
        if (Counted()) return Fail("there is nothing to repeat");
        if (!error_.empty()) return false;
        break;
      case '\\':
        if (const char* ranges = ClassOf(Peek(1))) {
          at_ += 2;
          out_ += '[' + std::string(ranges) + ']';
          return true;
        }
        break;
      default:
        break;
    }
    char32_t literal = 0;
    if (!Character(&literal)) return false;
    out_ += '"' + Written(literal) + '"';
    return true;
  }

  bool Group(int depth) {
    if (depth > kMaxDepth) return Fail("too many groups within each other");
    ++at_;
    if (Peek() == '?' && !GroupHead()) return Fail("groups of this kind are not known");
    out_ += "( ";
    if (!Alternatives(depth)) return false;
    if (!Skip(U")")) return Fail("a ')' is missing");
    out_ += ')';
    return true;
  }

  // ?: or a name.
  bool GroupHead() {
    if (Skip(U"?:")) return true;
    if (!Skip(U"?P<") && !Skip(U"?<")) return false;
    const size_t from = at_;
    while (IsLetter(Peek()) || IsDigit(Peek()) || Peek() == '_') ++at_;
    return at_ > from && Skip(U">");
  }

  bool Repetition() {
    const char32_t c = Peek();
    if (c == '*' || c == '+' || c == '?') {
      out_ += static_cast<char>(c);
      ++at_;
    } else if (c != '{' || !Counted()) {
      return error_.empty();
    }
    Skip(U"?");
    return Peek() != '+' || Fail("repetitions that give nothing back are not known");
  }

  // {m}, {m,}, {,n}, {m,n} or {,}. Other braces are literals: false, and nothing is read.
  bool Counted() {
    const size_t from = at_++;
    const std::optional<uint32_t> low = Number();
    const bool range = Skip(U",");
    const std::optional<uint32_t> high = range ? Number() : low;
    if ((!low && !range) || !Skip(U"}")) {
      at_ = from;
      return false;
    }
    if (low.value_or(0) > kMaxRepetition || high.value_or(0) > kMaxRepetition)
      return Fail("more than " + std::to_string(kMaxRepetition) + " repetitions");
    if (high && low.value_or(0) > *high) return Fail("fewer repetitions at most than at least");
    out_ += '{' + std::to_string(low.value_or(0)) + ',';
    if (high) out_ += std::to_string(*high);
    out_ += '}';
    return true;
  }

  std::optional<uint32_t> Number() {
    const size_t from = at_;
    uint32_t n = 0;
    for (; IsDigit(Peek()); ++at_) n = std::min(n * 10 + (Peek() - '0'), kMaxRepetition + 1);
    return at_ > from ? std::optional(n) : std::nullopt;
  }

  bool Class() {
    ++at_;
    out_ += Skip(U"^") ? "[^" : "[";
    for (bool first = true; first || Peek() != ']'; first = false) {
      if (AtEnd()) return Fail("a ']' is missing");
      if (Peek() == '[' && (Peek(1) == ':' || Peek(1) == '.' || Peek(1) == '='))
        return Fail("classes with a name are not known");
      if (!ClassItem()) return false;
    }
    ++at_;
    out_ += ']';
    return true;
  }

  // A character, a range, or a class like \d.
  bool ClassItem() {
    if (const char* ranges = Peek() == '\\' ? ClassOf(Peek(1)) : nullptr) {
      at_ += 2;
      out_ += ranges;
      return true;
    }
    char32_t low = 0, high = 0;
    if (!Character(&low)) return false;
    out_ += Written(low);
    if (Peek() != '-' || Peek(1) == ']' || at_ + 1 >= text_.size()) return true;
    ++at_;
    if (Peek() == '\\' && ClassOf(Peek(1))) return Fail("a range must end with a character");
    if (!Character(&high)) return false;
    if (low > high) return Fail("a range that runs backwards");
    out_ += '-' + Written(high);
    return true;
  }

  // One code point, escaped or not.
  bool Character(char32_t* out) {
    *out = Peek();
    if (*out != '\\') return ++at_, true;
    const char32_t c = Peek(1);
    static constexpr std::pair<char32_t, char32_t> kControls[] = {
        {'n', '\n'}, {'t', '\t'}, {'r', '\r'}, {'f', '\f'}, {'v', '\v'}};
    for (const auto& [name, control] : kControls)
      if (c == name) return *out = control, at_ += 2, true;
    if (c == 'x' || c == 'u' || c == 'U') return Hex(c == 'x' ? 2 : c == 'u' ? 4 : 8, out);
    if (at_ + 1 >= text_.size() || IsLetter(c) || IsDigit(c)) return Fail("an escape that is not known");
    *out = c;
    at_ += 2;
    return true;
  }

  bool Hex(size_t digits, char32_t* out) {
    *out = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char32_t c = Peek(2 + i);
      const char32_t letter = c | 0x20;
      if (!IsDigit(c) && !(IsLetter(c) && letter <= 'f')) return Fail("an escape that is not known");
      *out = *out * 16 + (IsDigit(c) ? c - '0' : letter - 'a' + 10);
    }
    if (*out > 0x10FFFF || (*out >= 0xD800 && *out <= 0xDFFF)) return Fail("an escape of no character");
    at_ += 2 + digits;
    return true;
  }

  const std::u32string text_;
  size_t at_ = 0;
  std::string out_, error_;
};

}  // namespace

std::optional<std::string> RegexGrammar(std::string_view regex, std::string* error) {
  *error = "from 1 to " + std::to_string(kMaxBytes) + " bytes of UTF-8 are expected";
  if (regex.empty() || regex.size() > kMaxBytes || !sdk::IsUtf8(regex)) return std::nullopt;
  Translator translator(CodePoints(regex));
  if (translator.Run()) return translator.Take();
  *error = translator.error();
  return std::nullopt;
}

}  // namespace cyllm::llama
