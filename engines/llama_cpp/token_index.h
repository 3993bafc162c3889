// The bytes of a vocabulary's tokens, in an order in which what begins alike is walked once.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "llama_cpp/grammar_matcher.h"
#include "llama_cpp/vocabulary.h"

namespace cyllm::llama {

// Immutable, thread-safe.
class TokenIndex {
 public:
  explicit TokenIndex(const Vocabulary& vocabulary);

  // Tokens whose bytes lead nowhere from `state`, and those without bytes (they mean something to the model,
  // nothing to a grammar), get the logit -infinity.
  void Mask(GrammarMatcher& matcher, GrammarMatcher::State state, std::span<float> logits) const;

 private:
  struct Entry {
    Token token;
    uint32_t begin, length;  // in bytes_
    uint32_t common;         // bytes that it begins with as the one before does
  };
  std::string bytes_;
  std::vector<Entry> entries_;  // sorted by bytes
  std::vector<Token> silent_;   // without bytes
};

}  // namespace cyllm::llama
