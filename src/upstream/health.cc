#include "upstream/health.h"

#include <algorithm>

namespace cyllm::upstream {

void Health::OnProbe(Probe probe, TimePoint now) {
  switch (probe) {
    case Probe::kServes:
      if (ever_up_ && !up_) OnAnswer();  // it was gone, and is another one now
      up_ = ever_up_ = true;
      silent_ = 0;
      break;
    case Probe::kRefuses:
      up_ = false;
      silent_ = 0;
      break;
    case Probe::kSilent:
      if (silent_++ == 0) silent_since_ = now;
      if (silent_ >= limits_.probe_failures) up_ = false;
      break;
  }
}

void Health::OnUnreachable() { up_ = false; }

void Health::OnServerError(TimePoint now) {
  if (++errors_ < limits_.server_errors) return;
  pause_ = pause_.count() == 0 ? limits_.pause : std::min(2 * pause_, limits_.max_pause);
  paused_until_ = After(now, pause_);
  errors_ = limits_.server_errors - 1;  // afterwards one more is enough
}

void Health::OnAnswer() {
  errors_ = 0;
  pause_ = Millis(0);
  paused_until_ = TimePoint::min();
}

std::string Health::reason(TimePoint now) const {
  if (!up_)
    return ever_up_ ? "the model's server does not answer" : "the model's server has not answered yet";
  return now < paused_until_ ? "the model's server fails" : "";
}

}  // namespace cyllm::upstream
