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
  // first.
  virtual std::vector<Token> Tokenize(std::string_view text, bool begin = true) const = 0;
};

}  // namespace cyllm::llama
