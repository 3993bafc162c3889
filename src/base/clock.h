// Time. Durations and deadlines are on the monotonic clock everywhere; wall time is for `created` fields.
#pragma once

#include <chrono>

namespace cyllm {

using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC
using TimePoint = Clock::time_point;
using Millis = std::chrono::milliseconds;

inline constexpr TimePoint kNever = TimePoint::max();

// `now + d` that stays at kNever instead of overflowing.
inline TimePoint After(TimePoint now, Clock::duration d) { return d >= kNever - now ? kNever : now + d; }

}  // namespace cyllm
