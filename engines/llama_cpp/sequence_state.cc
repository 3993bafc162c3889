#include "llama_cpp/sequence_state.h"

#include <algorithm>
#include <cstring>

namespace cyllm::llama {

namespace {

constexpr size_t kStreams = 8, kCounts = 12, kCount = sizeof(uint32_t);
constexpr size_t kMost = 256;  // LLAMA_MAX_SEQ

}  // namespace

// The own stream comes first, and as many empty ones follow as any context can want.
bool Generalise(uint32_t sequence, uint32_t streams, std::vector<uint8_t>* state) {
  uint32_t written = 0;
  if (sequence >= streams || state->size() < kCounts + streams * kCount) return false;
  std::memcpy(&written, state->data() + kStreams, sizeof written);
  const auto counts = state->begin() + kCounts;
  const auto own = counts + static_cast<ptrdiff_t>(sequence * kCount);
  const auto after = state->end() - static_cast<ptrdiff_t>((streams - 1 - sequence) * kCount);
  const auto zero = [](uint8_t b) { return b == 0; };
  if (written != streams || !std::all_of(counts, own, zero) || !std::all_of(after, state->end(), zero))
    return false;
  state->erase(after, state->end());
  state->erase(counts, own);
  state->resize(state->size() + (kMost - 1) * kCount);
  return true;
}

bool Fit(uint32_t streams, std::span<uint8_t> state) {
  if (streams > kMost || state.size() < kCounts + kMost * kCount) return false;
  std::memcpy(state.data() + kStreams, &streams, sizeof streams);
  return true;
}

}  // namespace cyllm::llama
