#include "llama_cpp/thread_governor.h"

#include <algorithm>
#include <cmath>

namespace cyllm::llama {

void ThreadGovernor::Report(Seconds wall, Seconds cpu) {
  if (all_ < 2) return;
  if (now_ < all_) {
    reduced_ -= wall;
    if (reduced_ <= Seconds(0)) {
      now_ = all_;
      wall_ = cpu_ = good_ = Seconds(0);
    }
    return;
  }
  wall_ += wall;
  cpu_ += cpu;
  if (wall_ < kWindow) return;
  const double missing = all_ - cpu_ / wall_;
  good_ += wall_;
  wall_ = cpu_ = Seconds(0);
  if (missing > kTolerated) {
    Reduce(missing);
  } else if (good_ > kForget) {
    penalty_ = kFirst;
  }
}

void ThreadGovernor::Reduce(double missing) {
  const auto fewer = static_cast<uint32_t>(std::clamp(std::ceil(missing - kTolerated), 1.0, all_ - 1.0));
  now_ = all_ - fewer;
  reduced_ = penalty_;
  penalty_ = std::min(penalty_ * 2, kLongest);
}

}  // namespace cyllm::llama
