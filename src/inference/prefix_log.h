// What engines say of the prefixes in their caches (cyllm_callbacks.cache): the newest changes, for sessions
// that pass them on to routing. Thread-safe. A reader that is too slow misses the oldest; routing takes them
// for hints anyway.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/mutex.h"

namespace cyllm {

struct PrefixChanges {
  std::vector<uint64_t> held, dropped;
  bool empty() const { return held.empty() && dropped.empty(); }
};

class PrefixLog {
 public:
  explicit PrefixLog(size_t capacity = 1u << 16) : ring_(capacity) {}

  void Add(std::span<const uint64_t> held, std::span<const uint64_t> dropped) {
    MutexLock lock(mutex_);
    for (const uint64_t hash : dropped) Put(hash, false);
    for (const uint64_t hash : held) Put(hash, true);
  }

  // At most `max` changes after `cursor`, which moves on; 0: from the oldest that is known.
  PrefixChanges Since(uint64_t& cursor, size_t max) const {
    MutexLock lock(mutex_);
    PrefixChanges changes;
    if (next_ > ring_.size()) cursor = std::max(cursor, next_ - ring_.size());
    for (; cursor < next_ && max > 0; ++cursor, --max) {
      const Change& change = ring_[cursor % ring_.size()];
      (change.held ? changes.held : changes.dropped).push_back(change.hash);
    }
    return changes;
  }

 private:
  struct Change {
    uint64_t hash = 0;
    bool held = false;
  };
  void Put(uint64_t hash, bool held) CY_REQUIRES(mutex_) { ring_[next_++ % ring_.size()] = {hash, held}; }

  mutable Mutex mutex_;
  std::vector<Change> ring_ CY_GUARDED_BY(mutex_);
  uint64_t next_ CY_GUARDED_BY(mutex_) = 0;
};

}  // namespace cyllm
