// GBNF as a tree.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cyllm::llama {

struct GrammarExpr {
  enum class Kind : uint8_t { kLiteral, kClass, kRule, kSequence, kChoice, kRepeat };
  static constexpr uint32_t kUnbounded = UINT32_MAX;

  Kind kind = Kind::kSequence;
  std::string literal;                                // kLiteral: bytes
  std::vector<std::pair<uint32_t, uint32_t>> ranges;  // kClass: of code points, both ends in it
  uint32_t rule = 0;                                  // kRule: index of GrammarSyntax::rules
  uint32_t min = 0, max = 0;                          // kRepeat: of the only child
  std::vector<GrammarExpr> children;
};

struct GrammarSyntax {
  struct Rule {
    std::string name;
    bool defined = false;
    GrammarExpr body;
  };
  std::vector<Rule> rules;
};

// The grammar of https://github.com/ggml-org/llama.cpp/tree/master/grammars, without its token elements.
// False and `error` when the text is none.
bool ParseGrammar(std::string_view gbnf, GrammarSyntax* out, std::string* error);

}  // namespace cyllm::llama
