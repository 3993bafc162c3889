#include "llama_cpp/grammar_syntax.h"

#include <algorithm>
#include <optional>
#include <unordered_map>

namespace cyllm::llama {

namespace {

constexpr uint32_t kLastCodePoint = 0x10FFFF;
constexpr int kMaxDepth = 256;  // of parentheses

using Ranges = std::vector<std::pair<uint32_t, uint32_t>>;

bool IsName(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

void AppendUtf8(uint32_t c, std::string* out) {
  if (c < 0x80) {
    *out += static_cast<char>(c);
  } else if (c < 0x800) {
    *out += static_cast<char>(0xC0 | (c >> 6));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    *out += static_cast<char>(0xE0 | (c >> 12));
    *out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    *out += static_cast<char>(0xF0 | (c >> 18));
    *out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    *out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

Ranges Complement(Ranges in) {
  std::sort(in.begin(), in.end());
  Ranges out;
  uint32_t next = 0;
  for (const auto& [low, high] : in) {
    if (low > next) out.emplace_back(next, low - 1);
    next = std::max(next, high + 1);
  }
  if (next <= kLastCodePoint) out.emplace_back(next, kLastCodePoint);
  return out;
}

// Every function leaves `at_` behind what it read; false after the first mistake.
class Parser {
 public:
  Parser(std::string_view text, GrammarSyntax* out, std::string* error)
      : text_(text), out_(out), error_(error) {}

  bool Parse() {
    Space(true);
    while (at_ < text_.size())
      if (!ParseRule()) return false;
    for (const GrammarSyntax::Rule& rule : out_->rules)
      if (!rule.defined) return Fail("rule '" + rule.name + "' is not defined");
    return true;
  }

 private:
  char Peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool Fail(const std::string& what) {
    const auto line =
        std::count(text_.begin(), text_.begin() + static_cast<ptrdiff_t>(std::min(at_, text_.size())), '\n');
    *error_ = what + " (line " + std::to_string(line + 1) + ")";
    return false;
  }

  void Space(bool newlines) {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '#') {
        while (at_ < text_.size() && text_[at_] != '\n' && text_[at_] != '\r') ++at_;
      } else if (c == ' ' || c == '\t' || (newlines && (c == '\n' || c == '\r'))) {
        ++at_;
      } else {
        return;
      }
    }
  }

  uint32_t RuleOf(std::string_view name) {
    const auto [it, fresh] = ids_.try_emplace(std::string(name), static_cast<uint32_t>(out_->rules.size()));
    if (fresh) out_->rules.push_back({std::string(name), false, {}});
    return it->second;
  }

  std::string_view Name() {
    const size_t from = at_;
    while (IsName(Peek())) ++at_;
    return text_.substr(from, at_ - from);
  }

  bool ParseRule() {
    const std::string_view name = Name();
    if (name.empty()) return Fail("the name of a rule is expected");
    const uint32_t rule = RuleOf(name);
    Space(false);
    if (text_.substr(at_, 3) != "::=") return Fail("'::=' is expected");
    at_ += 3;
    Space(true);
    GrammarExpr body;
    if (!ParseChoice(false, 0, &body)) return false;
    if (at_ < text_.size() && Peek() != '\n' && Peek() != '\r')
      return Fail("the end of the line is expected");
    Space(true);
    out_->rules[rule].body = std::move(body);
    out_->rules[rule].defined = true;
    return true;
  }

  bool ParseChoice(bool nested, int depth, GrammarExpr* out) {
    if (depth > kMaxDepth) return Fail("too many parentheses within each other");
    GrammarExpr choice{GrammarExpr::Kind::kChoice, {}, {}, 0, 0, 0, {}};
    while (true) {
      GrammarExpr sequence;
      if (!ParseSequence(nested, depth, &sequence)) return false;
      choice.children.push_back(std::move(sequence));
      if (Peek() != '|') break;
      ++at_;
      Space(true);
    }
    *out = choice.children.size() == 1 ? std::move(choice.children[0]) : std::move(choice);
    return true;
  }

  bool ParseSequence(bool nested, int depth, GrammarExpr* out) {
    while (true) {
      GrammarExpr item;
      const char c = Peek();
      if (c == '"') {
        if (!ParseLiteral(&item)) return false;
      } else if (c == '[') {
        if (!ParseClass(&item)) return false;
      } else if (c == '.') {
        ++at_;
        item.kind = GrammarExpr::Kind::kClass;
        item.ranges = {{0, kLastCodePoint}};
      } else if (c == '(') {
        ++at_;
        Space(true);
        if (!ParseChoice(true, depth + 1, &item)) return false;
        if (Peek() != ')') return Fail("')' is expected");
        ++at_;
      } else if (IsName(c)) {
        item.kind = GrammarExpr::Kind::kRule;
        item.rule = RuleOf(Name());
      } else if (c == '<' || c == '!') {
        return Fail("token elements are not offered");
      } else {
        return true;
      }
      Space(nested);
      if (!ParseRepeats(nested, &item)) return false;
      out->children.push_back(std::move(item));
    }
  }

  bool ParseRepeats(bool nested, GrammarExpr* item) {
    for (int n = 0;; ++n) {
      uint32_t min = 0, max = GrammarExpr::kUnbounded;
      const char c = Peek();
      if (c == '*' || c == '+' || c == '?') {
        ++at_;
        min = c == '+' ? 1 : 0;
        if (c == '?') max = 1;
      } else if (c == '{') {
        if (!ParseCounts(nested, &min, &max)) return false;
      } else {
        return true;
      }
      if (n >= 8) return Fail("too many repetitions of a repetition");
      Space(nested);
      GrammarExpr repeat{GrammarExpr::Kind::kRepeat, {}, {}, 0, min, max, {}};
      repeat.children.push_back(std::move(*item));
      *item = std::move(repeat);
    }
  }

  bool ParseCounts(bool nested, uint32_t* min, uint32_t* max) {
    ++at_;
    Space(nested);
    const std::optional<uint32_t> low = Number();
    if (!low) return Fail("a number of repetitions is expected");
    *min = *max = *low;
    Space(nested);
    if (Peek() == ',') {
      ++at_;
      Space(nested);
      *max = GrammarExpr::kUnbounded;
      if (Peek() != '}') {
        const std::optional<uint32_t> high = Number();
        if (!high || *high < *low) return Fail("a number of repetitions is expected");
        *max = *high;
      }
      Space(nested);
    }
    if (Peek() != '}') return Fail("'}' is expected");
    ++at_;
    return true;
  }

  std::optional<uint32_t> Number() {
    uint64_t n = 0;
    const size_t from = at_;
    while (Peek() >= '0' && Peek() <= '9')
      n = std::min<uint64_t>(n * 10 + static_cast<uint64_t>(text_[at_++] - '0'), UINT32_MAX - 1);
    if (at_ == from) return std::nullopt;
    return static_cast<uint32_t>(n);
  }

  bool ParseLiteral(GrammarExpr* out) {
    out->kind = GrammarExpr::Kind::kLiteral;
    for (++at_; Peek() != '"';) {
      uint32_t c = 0;
      if (at_ >= text_.size() || !Character(&c)) return Fail("a string that does not end, or a wrong escape");
      AppendUtf8(c, &out->literal);
    }
    ++at_;
    return true;
  }

  bool ParseClass(GrammarExpr* out) {
    out->kind = GrammarExpr::Kind::kClass;
    ++at_;
    const bool negated = Peek() == '^';
    if (negated) ++at_;
    while (Peek() != ']') {
      uint32_t low = 0;
      if (at_ >= text_.size() || !Character(&low))
        return Fail("a character class that does not end, or a wrong escape");
      uint32_t high = low;
      if (Peek() == '-' && Peek(1) != ']') {
        ++at_;
        if (at_ >= text_.size() || !Character(&high)) return Fail("a character range that does not end");
      }
      if (low <= high) out->ranges.emplace_back(low, high);
    }
    ++at_;
    if (negated) out->ranges = Complement(std::move(out->ranges));
    return true;
  }

  bool Hex(size_t digits, uint32_t* out) {
    *out = 0;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      const char c = Peek();
      const uint32_t v = c >= '0' && c <= '9'   ? static_cast<uint32_t>(c - '0')
                         : c >= 'a' && c <= 'f' ? static_cast<uint32_t>(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? static_cast<uint32_t>(c - 'A' + 10)
                                                : 16;
      if (v > 15) return false;
      *out = *out * 16 + v;
    }
    return *out <= kLastCodePoint;
  }

  // One code point, escaped or not.
  bool Character(uint32_t* out) {
    const auto lead = static_cast<uint8_t>(text_[at_]);
    if (lead == '\\') {
      const char c = Peek(1);
      at_ += 2;
      switch (c) {
        case 'x':
          return Hex(2, out);
        case 'u':
          return Hex(4, out);
        case 'U':
          return Hex(8, out);
        case 't':
          *out = '\t';
          return true;
        case 'r':
          *out = '\r';
          return true;
        case 'n':
          *out = '\n';
          return true;
        case '\\':
        case '"':
        case '[':
        case ']':
        case '-':
          *out = static_cast<uint8_t>(c);
          return true;
        default:
          return false;
      }
    }
    const size_t length = lead < 0x80   ? 1
                          : lead < 0xC0 ? 0
                          : lead < 0xE0 ? 2
                          : lead < 0xF0 ? 3
                          : lead < 0xF8 ? 4
                                        : 0;
    if (length == 0 || at_ + length > text_.size()) return false;
    uint32_t c = length == 1 ? lead : lead & (0xFFu >> (length + 1));
    for (size_t i = 1; i < length; ++i) {
      const auto b = static_cast<uint8_t>(text_[at_ + i]);
      if ((b & 0xC0) != 0x80) return false;
      c = c << 6 | (b & 0x3F);
    }
    at_ += length;
    *out = c;
    return c <= kLastCodePoint;
  }

  const std::string_view text_;
  GrammarSyntax* const out_;
  std::string* const error_;
  size_t at_ = 0;
  std::unordered_map<std::string, uint32_t> ids_;
};

}  // namespace

bool ParseGrammar(std::string_view gbnf, GrammarSyntax* out, std::string* error) {
  return Parser(gbnf, out, error).Parse();
}

}  // namespace cyllm::llama
