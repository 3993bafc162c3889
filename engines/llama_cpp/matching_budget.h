// How much of the engine thread's time goes into matching grammars.
#pragma once

#include <algorithm>
#include <chrono>
#include <utility>

#include "llama_cpp/request.h"

namespace cyllm::llama {

// A bucket of time that fills with a share of the time that passes, up to `most`. What is spent is known
// afterwards only: it may fall below nothing, and is closed until that has filled up again. Pure; not
// thread-safe.
class MatchingBudget {
 public:
  using Seconds = std::chrono::duration<double>;

  MatchingBudget(Seconds most, double share) : most_(most), share_(share), left_(most) {}

  bool Open(TimePoint now) {
    left_ = std::min(most_, left_ + share_ * Seconds(now - std::exchange(filled_, now)));
    return left_ > Seconds(0);
  }
  void Spent(Seconds took) { left_ -= took; }

 private:
  const Seconds most_;
  const double share_;
  Seconds left_;
  TimePoint filled_{};
};

}  // namespace cyllm::llama
