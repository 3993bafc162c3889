// A circuit breaker of one backend: opens when it fails again and again, lets one real request through now
// and then to see, closes when that succeeds. Only the backend's own failures count: client errors, refusals
// (overloaded, draining) and clients that leave change nothing, and a probe that ends without a verdict makes
// room for the next one. So it always closes again.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"
#include "base/status.h"

namespace cyllm {

struct BreakerOptions {
  uint32_t failures = 5;   // in a row
  Millis open_min{1'000};  // doubles while probes fail
  Millis open_max{30'000};
  Millis probe_limit{10'000};  // a probe without a verdict after so long is not waited for
};

enum class Verdict : uint8_t { kNone, kGood, kBad };

// What a request's end says about the backend that ran it; `delivered`: it had sent something.
inline Verdict Judge(const Status& end, bool delivered) {
  if (end.ok()) return Verdict::kGood;
  switch (end.code) {
    case Code::kInternal:
    case Code::kUnknown:
    case Code::kDataLoss:
      return Verdict::kBad;
    case Code::kUnavailable:
      return end.reason == "overloaded" || end.reason == "draining" || end.reason == "no_worker" ||
                     end.reason == "load_failed" || end.reason == "engine_stalled"
                 ? Verdict::kNone
                 : Verdict::kBad;
    default:
      return delivered ? Verdict::kGood : Verdict::kNone;
  }
}

// Not thread-safe.
class Breaker {
 public:
  enum class State : uint8_t { kClosed, kOpen, kHalfOpen };

  explicit Breaker(BreakerOptions options = {}) : options_(options) {}

  State state(TimePoint now) const {
    if (failures_ < options_.failures) return State::kClosed;
    return now < open_until_ || now < probe_until_ ? State::kOpen : State::kHalfOpen;
  }
  // A request is sent there; true: it is the probe, whose verdict is waited for.
  bool Send(TimePoint now) {
    if (state(now) != State::kHalfOpen) return false;
    probe_until_ = now + options_.probe_limit;
    return true;
  }
  void Trip(TimePoint now) {
    failures_ = options_.failures;
    open_for_ = std::clamp(open_for_ * 2, options_.open_min, options_.open_max);
    open_until_ = now + open_for_;
  }
  void Ended(Verdict verdict, bool probe, TimePoint now) {
    if (probe) probe_until_ = TimePoint::min();
    if (verdict == Verdict::kGood) {
      failures_ = 0;
      open_for_ = Millis(0);
    } else if (verdict == Verdict::kBad) {
      failures_ = std::min(failures_ + 1, options_.failures);
      if (failures_ < options_.failures || (!probe && now < open_until_)) return;
      Trip(now);
    }
  }

 private:
  const BreakerOptions options_;
  uint32_t failures_ = 0;
  Millis open_for_{0};
  TimePoint open_until_ = TimePoint::min();
  TimePoint probe_until_ = TimePoint::min();
};

}  // namespace cyllm
