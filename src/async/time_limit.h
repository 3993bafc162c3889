// A time by which what a coroutine waits for must have come.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <memory>

#include "async/task.h"
#include "base/clock.h"

namespace cyllm {

// One timer for the limits that a connection sets one after another. Not thread-safe: all on its executor.
class TimeLimit {
 public:
  explicit TimeLimit(const Executor& home) : timer_(home) {}

  // While it lives, `stop` is called once `until` has come; kNever: it is not. Never after its end, and what
  // the timer still has in its queue then may outlive the TimeLimit. A later one takes the place of an
  // earlier one.
  class Scope {
   public:
    Scope(TimeLimit& limit, TimePoint until, std::function<void()> stop);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    TimeLimit& limit_;
  };

  bool passed() const { return passed_; }  // the latest one's time had come

 private:
  boost::asio::steady_timer timer_;
  const std::shared_ptr<uint64_t> turn_ = std::make_shared<uint64_t>(0);  // which Scope the timer is for
  bool passed_ = false;
};

}  // namespace cyllm
