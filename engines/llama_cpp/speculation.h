// Speculation without a draft model: text that repeats what was there before is guessed from it (prompt
// lookup), and several tokens are computed in one step, which costs less than as many steps.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <span>

#include "llama_cpp/decoder.h"

namespace cyllm::llama {

struct Guess {
  std::span<const Token> tokens;  // of the text itself; empty: there is no guess
  uint32_t match = 0;             // so many tokens before them are the last ones of the text
};

// What followed where the longest end of `text` (3 to 16 tokens) was seen before, the latest of equals; at
// most `most` tokens. Pure; half a nanosecond for each token of the text.
Guess Lookup(std::span<const Token> text, uint32_t most);

// How likely the next token of a guess is right, after all before it were: learnt from a text, apart for
// longer and shorter matches. A longer match is taken to be as good as shorter ones until it is known better;
// at first it is half, which never pays. Not thread-safe.
class Acceptance {
 public:
  // What was learnt from all texts, this one too, counts a tenth.
  double Rate(uint32_t match, const Acceptance& all) const;
  // Of a guess, `right` tokens were, and the one that followed was not if `wrong`. Guesses that were not
  // computed are told as well, by their first token.
  void Report(uint32_t match, uint32_t right, bool wrong);

 private:
  struct Count {
    double right = 0, all = 0;
  };
  static size_t Bucket(uint32_t match);
  std::array<Count, 4> counts_{};
};

// How many guessed tokens a step should have: as many as make steps of 2, 4, 8 or 16 rows (llama.cpp
// multiplies four and sixteen at a time). Learns what such steps cost; what was not measured for hundreds of
// steps is tried again. Not thread-safe.
class GuessLength {
 public:
  using Seconds = std::chrono::duration<double>;
  static constexpr std::array<uint32_t, 4> kRows = {2, 4, 8, 16};
  static constexpr uint32_t kMost = kRows.back() - 1;

  // 0 to `most`: where `rate`, the chance of each, promises the most tokens in a second; 0 where the gain is
  // too small to be sure.
  uint32_t Best(double rate, uint32_t most) const;
  // A step of one sequence with so many rows took so long.
  void Report(uint32_t rows, Seconds took);

 private:
  static constexpr std::array<double, 4> kAssumed = {1.5, 2.5, 4.5, 8};  // two cores, a small model
  Seconds one_{0};                                                       // 0: not known yet
  std::array<double, 4> cost_ = kAssumed;                                // in steps of one row
};

}  // namespace cyllm::llama
