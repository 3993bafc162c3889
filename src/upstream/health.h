// Whether a server can be given requests: from probes, and from how requests ended. A pure state machine;
// time is passed in.
//
// Probes alone do not tell: a vLLM that drains answers 500 to new requests while its health is 200. Answers
// alone do not either: where nobody asks, nothing is learnt. The client's mistakes and "overloaded" count for
// nothing.
#pragma once

#include <string>

#include "base/clock.h"

namespace cyllm::upstream {

struct HealthLimits {
  uint32_t probe_failures = 3;  // in a row, of probes without an answer, until a server that served is down
  uint32_t server_errors = 3;   // in a row, of requests, until it is let alone
  Millis pause{1'000};          // how long; doubled each time it goes on
  Millis max_pause{30'000};
};

class Health {
 public:
  explicit Health(HealthLimits limits = {}) : limits_(limits) {}

  enum class Probe {
    kServes,
    kRefuses,
    kSilent
  };  // 200; another answer, or no connection; no answer in time
  void OnProbe(Probe probe, TimePoint now);
  void OnUnreachable();  // a request found nobody: down until a probe says otherwise
  // 5xx, a death in mid-answer. Forgotten once probes find it gone and back.
  void OnServerError(TimePoint now);
  void OnAnswer();  // any answer that shows a working server

  bool ready(TimePoint now) const { return up_ && now >= paused_until_; }
  bool up() const { return up_; }
  // Since when probes have gone unanswered; kNever: they are answered. What has been silent since then hangs.
  TimePoint silent_since() const { return silent_ >= limits_.probe_failures ? silent_since_ : kNever; }
  std::string reason(TimePoint now) const;  // why it is not ready

 private:
  const HealthLimits limits_;
  bool up_ = false, ever_up_ = false;
  uint32_t silent_ = 0, errors_ = 0;
  TimePoint silent_since_ = kNever;
  TimePoint paused_until_ = TimePoint::min();
  Millis pause_{0};
};

}  // namespace cyllm::upstream
