// Tokens and their text.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "llama_cpp/decoder.h"

namespace cyllm::llama {

// Immutable, thread-safe.
class Vocabulary {
 public:
  virtual ~Vocabulary() = default;

  virtual uint32_t size() const = 0;
  virtual bool IsEnd(Token token) const = 0;  // ends a generation
  virtual const std::vector<Token>& end_tokens() const = 0;
  struct Infill {
    Token prefix, suffix, middle;  // come before each
  };
  virtual std::optional<Infill> infill() const { return std::nullopt; }
  virtual std::string Piece(Token token) const = 0;  // bytes, perhaps part of a code point
  // Special tokens in the text count as such; with `begin` those that the model's prompts begin with come
  // first. May recurse for each character of a stretch that HasLongStretch looks for: on a LargeThread only.
  virtual std::vector<Token> Tokenize(std::string_view text, bool begin = true) const = 0;
};

// Whether that many characters follow one another that are all letters, all digits, all white space, or all
// something else (what is not ASCII may be any of these): Tokenize could recurse deeper than a LargeThread's
// stack reaches, and it is no text.
constexpr size_t kLongStretch = 250'000;
bool HasLongStretch(std::string_view text);

}  // namespace cyllm::llama
