// The running streams of one backend, so that they can be ended from elsewhere: when it hangs, or when what
// is left at the end of a drain has to move. Thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <unordered_set>

#include "base/mutex.h"
#include "inference/service.h"

namespace cyllm {

class StreamGroup {
 public:
  // One stream's place in the group. Its owner looks at `ended` before and after each Next.
  struct Member {
    explicit Member(Executor h) : home(std::move(h)) {}
    const Executor home;
    EventSource* stream = nullptr;  // on home only: what is woken
    std::atomic<bool> ended{false};
    Status why;  // once ended
  };

  std::shared_ptr<Member> Join(Executor home, EventSource* stream);  // on home
  void Leave(const std::shared_ptr<Member>& member);                 // on home
  // Marks all members ended, and wakes them.
  void EndAll(const Status& why);

  size_t size() const;
  // When a member last had an event, or joined.
  void Progress(TimePoint now) { progress_ = now.time_since_epoch().count(); }
  TimePoint last_progress() const { return TimePoint(Clock::duration(progress_)); }

 private:
  mutable Mutex mutex_;
  std::unordered_set<std::shared_ptr<Member>> members_ CY_GUARDED_BY(mutex_);
  std::atomic<int64_t> progress_{0};
};

}  // namespace cyllm
