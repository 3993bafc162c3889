// Bytes of tokens to whole code points.
#pragma once

#include <string>
#include <string_view>

namespace cyllm::llama {

// Not thread-safe. One per choice.
class Detokenizer {
 public:
  // Takes a token's bytes and returns what is complete. Bytes that can be no UTF-8 become U+FFFD; at most
  // three are held back.
  std::string Push(std::string_view bytes);

  // At the end: U+FFFD for a code point that was not finished.
  std::string Flush();
  bool holds() const { return !held_.empty(); }

 private:
  std::string held_;
};

}  // namespace cyllm::llama
