// Tells an engine that hangs (a driver, a deadlock) from one that computes: it owes something, and nothing of
// it moves.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace cyllm {

struct StallLimits {
  Millis late{60'000};  // the engine that owes something and does not move for so long hangs; 0: never
  Millis soon{5'000};   // one whose steps are short and were seen hangs after so long, or 8 times its longest
};

// Not thread-safe.
class StallWatch {
 public:
  enum class Owes : uint8_t {
    kNothing,
    kSomething,
    kStep,  // its next step, which is bounded (cyllm_description.max_step_tokens)
  };

  explicit StallWatch(StallLimits limits) : limits_(limits) {}

  // To be asked at a steady pace. `moves` grows with all that the engine does. True: it hangs.
  bool Stalls(Owes owes, uint64_t moves, TimePoint now);

 private:
  static constexpr uint32_t kKnown = 8;  // moves that must have been seen

  const StallLimits limits_;
  uint64_t moves_ = 0;
  TimePoint moved_ = TimePoint::min();
  bool owed_ = false;  // when it was last asked
  uint32_t seen_ = 0;
  Millis longest_{0};  // time between two of them
};

}  // namespace cyllm
