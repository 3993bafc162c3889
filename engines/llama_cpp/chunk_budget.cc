#include "llama_cpp/chunk_budget.h"

#include <algorithm>
#include <bit>

namespace cyllm::llama {

namespace {

using Seconds = ChunkBudget::Seconds;

// A moving average that one odd step does not throw off.
void Learn(Seconds sample, Seconds* average) {
  constexpr double kWeight = 0.2, kOdd = 3;
  if (*average <= Seconds(0)) {
    *average = sample;
  } else {
    *average += kWeight * (std::min(sample, kOdd * *average) - *average);
  }
}

}  // namespace

uint32_t ChunkBudget::Tokens(uint32_t decoding) const {
  const bool known = per_token_ > Seconds(0);
  if (decoding == 0) {
    uint32_t chunk = most_;
    while (known && chunk > kLeastAlone && chunk * per_token_ > kAlone) chunk = std::bit_floor(chunk - 1);
    return chunk;
  }
  if (!known) return std::min(most_, kFirst);
  const Seconds decode = Decode(decoding);
  const double tokens = std::max(target_ - decode, decode) / per_token_;
  if (tokens >= most_) return most_;
  const auto whole = static_cast<uint32_t>(tokens);  // matrices are multiplied in tiles
  return std::max(std::min(most_, kLeast), whole < kTile ? whole : whole - whole % kTile);
}

void ChunkBudget::Report(uint32_t decoding, uint32_t prompt, Seconds took) {
  if (took <= Seconds(0)) return;
  if (decoding > 0) Learn(took, &decode_cost_[Bucket(decoding)]);
  if (prompt == 0) return;
  // Few tokens say little about the cost of one.
  if (prompt < kLeast && per_token_ > Seconds(0)) return;
  Learn(took / prompt, &per_token_);
}

// 1, 2-3, 4-7, 8-15, ...
size_t ChunkBudget::Bucket(uint32_t decoding) {
  return std::min<size_t>(static_cast<size_t>(std::bit_width(decoding)) - 1, 9);
}

// Of what was seen, the nearest: fewer sequences rather than more.
Seconds ChunkBudget::Decode(uint32_t decoding) const {
  if (decoding == 0) return Seconds(0);
  const size_t bucket = Bucket(decoding);
  for (size_t i = bucket + 1; i > 0; --i)
    if (decode_cost_[i - 1] > Seconds(0)) return decode_cost_[i - 1];
  for (size_t i = bucket + 1; i < decode_cost_.size(); ++i)
    if (decode_cost_[i] > Seconds(0)) return decode_cost_[i];
  return Seconds(0);
}

}  // namespace cyllm::llama
