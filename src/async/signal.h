// A wake-up from any thread to the one coroutine that waits for it. Sticky: a Notify before Wait is not lost;
// many Notifies before one Wait are one.
#pragma once

#include <memory>
#include <vector>

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

  // While one lives, what its thread notifies is not posted; at its end all of it is, once for each home,
  // whose waiters are then ready together. For who has something for many: a wake-up costs more than most of
  // what is done after it. Within another one it does nothing.
  class Together;

  // On home only, one waiter at a time. True: notified (and consumed); false: `wake_at` has come.
  Task<bool> Wait(TimePoint wake_at = kNever);

  const Executor& home() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

class Signal::Together {
 public:
  Together();
  ~Together();
  Together(const Together&) = delete;
  Together& operator=(const Together&) = delete;

 private:
  friend class Signal;
  std::vector<std::shared_ptr<State>> states_;
};

// Returns at `at`, on the awaiting coroutine's executor.
Task<> SleepUntil(TimePoint at);

}  // namespace cyllm
