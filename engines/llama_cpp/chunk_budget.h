// How many prompt tokens may be computed between two tokens of those who decode.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "llama_cpp/decoder.h"

namespace cyllm::llama {

// A cost model, learnt from the steps that ran: so much for so many decoding sequences, so much for each
// prompt token. While sequences decode, a step of each kind together stay within the target inter-token
// latency; where decoding alone takes half of that or more, prompts get as much time as decoding does. While
// none decodes, chunks are a power of two, kTileRows at least, that takes two seconds at most. Pure; not
// thread-safe.
class ChunkBudget {
 public:
  using Seconds = std::chrono::duration<double>;

  ChunkBudget(Seconds target, uint32_t most) : target_(target), most_(most) {}

  // While so many sequences decode.
  uint32_t Tokens(uint32_t decoding) const;

  // A step with so many decoding sequences, or so many prompt tokens, took so long.
  void Report(uint32_t decoding, uint32_t prompt, Seconds took);

  // Expected for so many prompt tokens.
  Seconds Prefill(uint32_t tokens) const { return tokens * per_token_; }

 private:
  Seconds Decode(uint32_t decoding) const;
  static size_t Bucket(uint32_t decoding);

  static constexpr uint32_t kLeast = 8, kFirst = 128, kLeastAlone = kTileRows, kTile = 16;
  static constexpr Seconds kAlone{2};

  const Seconds target_;
  const uint32_t most_;
  Seconds per_token_{0};                   // 0: not known yet
  std::array<Seconds, 10> decode_cost_{};  // by bucket; 0: not known yet
};

}  // namespace cyllm::llama
