// A wake-up from any thread to the one coroutine that waits for it. Sticky: a Notify before Wait is not lost;
// many Notifies before one Wait are one.
#pragma once

#include <memory>

#include "async/task.h"
#include "base/clock.h"

namespace cyllm {

class Signal {
 public:
  explicit Signal(Executor home);
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;

  // Thread-safe; posts to home at most once until the waiter has seen it.
  void Notify();

  // On home only, one waiter at a time. True: notified (and consumed); false: `wake_at` has come.
  Task<bool> Wait(TimePoint wake_at = kNever);

  const Executor& home() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Returns at `at`, on the awaiting coroutine's executor.
Task<> SleepUntil(TimePoint at);

}  // namespace cyllm
