// Which worker holds which beginnings of prompts, as far as can be told from what was sent there. A hint,
// never a promise: entries expire, are overwritten, and mean nothing to correctness.
//
// A set-associative table of about one cache line per block hash, reserved once: its size is its bound,
// whatever the traffic; what no prompt has touched takes no memory. Lock-free: every word is a relaxed
// atomic, and a torn reading costs a worse pick at most.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"

namespace cyllm {

struct PrefixMatch {
  uint32_t slot = 0;    // PrefixIndex::Short of WorkerView::slot
  uint32_t blocks = 0;  // from the beginning, without a gap
  bool operator==(const PrefixMatch&) const = default;
};

class PrefixIndex {
 public:
  struct Options {
    size_t max_bytes =
        48u << 20;           // used up to a power of two of sets; 72 bytes per block of 256 bytes of prompt
    Millis expiry{600'000};  // after the last time it was sent there
  };
  explicit PrefixIndex(Options options);
  ~PrefixIndex();
  PrefixIndex(const PrefixIndex&) = delete;
  PrefixIndex& operator=(const PrefixIndex&) = delete;

  // Slots are counted from 1; 16 bits of them tell 65 535 registrations apart.
  static constexpr uint16_t Short(uint32_t slot) { return static_cast<uint16_t>((slot - 1) % 0xffff + 1); }

  // The workers that hold a beginning of the prompt, deepest first; 32 at most. Thread-safe.
  std::vector<PrefixMatch> Match(std::span<const uint64_t> blocks, TimePoint now) const;
  // The prompt was sent to this worker. Thread-safe.
  void Sent(std::span<const uint64_t> blocks, uint32_t slot, TimePoint now);
  // The worker says that it holds these no longer. Thread-safe.
  void Dropped(std::span<const uint64_t> blocks, uint32_t slot);

  size_t bytes() const { return sets_ * sizeof(Set); }

 private:
  static constexpr size_t kHolders = 14, kWays = 8;
  using Tick = uint16_t;  // of 2 s, wraps
  // Two holders a word: slot and time, 16 bits each. 0: none.
  struct Entry {
    std::array<std::atomic<uint64_t>, kHolders / 2> holders{};
    std::atomic<uint64_t> used{0};  // number of the last Sent; the smallest of a set leaves
  };
  struct alignas(64) Set {
    std::array<std::atomic<uint64_t>, kWays> hashes{};  // one cache line, then one per entry
    std::array<Entry, kWays> entries;
  };

  static Set* Reserve(size_t bytes);
  Tick TickOf(TimePoint now) const;
  bool Fresh(uint32_t holder, Tick now) const;
  Set& SetOf(uint64_t hash) const { return table_[hash & (sets_ - 1)]; }
  Entry* Find(uint64_t hash) const;
  Entry& FindOrTake(uint64_t hash);

  const uint16_t expiry_ticks_;
  const size_t sets_;  // a power of two
  Set* const table_;   // pages of zeros until they are written
  std::atomic<uint64_t> sent_{0};
};

}  // namespace cyllm
