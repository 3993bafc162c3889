#include "worker/engine_host/stall_watch.h"

#include <algorithm>

namespace cyllm {

bool StallWatch::Stalls(Owes owes, uint64_t moves, TimePoint now) {
  constexpr int kTimesLongest = 8;
  const bool moved = moves != moves_ || moved_ == TimePoint::min();
  if (moved && owed_) {
    ++seen_;
    longest_ = std::max(longest_, std::chrono::duration_cast<Millis>(now - moved_));
  }
  owed_ = owes != Owes::kNothing;
  if (moved || !owed_) {
    moves_ = moves;
    moved_ = now;
    return false;
  }
  if (limits_.late.count() == 0) return false;
  Millis limit = limits_.late;
  if (owes == Owes::kStep && seen_ >= kKnown)
    limit = std::min(limit, std::max(limits_.soon, kTimesLongest * longest_));
  return now - moved_ >= limit;
}

}  // namespace cyllm
