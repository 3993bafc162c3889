// A wake-up from any thread to the one coroutine that waits for it. Sticky: a Notify before Wait is not lost;
// many Notifies before one Wait are one.
#pragma once

#include <memory>
#include <type_traits>
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

  // Calls f(). What its thread notifies meanwhile is posted at its end, once for each home, whose waiters are
  // then ready together. For who has something for many: a wake-up costs more than most of what is done after
  // it. Within another one it is f() alone. A function, as no coroutine may be suspended in it.
  template <typename F>
    requires std::is_void_v<std::invoke_result_t<F&>>
  static void Together(F&& f) {
    const Gathering gathering;
    f();
  }

  // On home only, one waiter at a time. True: notified (and consumed); false: `wake_at` has come.
  Task<bool> Wait(TimePoint wake_at = kNever);

  const Executor& home() const;

 private:
  struct State;
  class Gathering {
   public:
    Gathering();
    ~Gathering();
    Gathering(const Gathering&) = delete;
    Gathering& operator=(const Gathering&) = delete;

   private:
    friend class Signal;
    static thread_local Gathering* current;
    std::vector<std::shared_ptr<State>> states_;
  };

  std::shared_ptr<State> state_;
};

// Returns at `at`, on the awaiting coroutine's executor.
Task<> SleepUntil(TimePoint at);

}  // namespace cyllm
