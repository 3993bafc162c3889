#include "async/time_limit.h"

#include <utility>

namespace cyllm {

TimeLimit::Scope::Scope(TimeLimit& limit, TimePoint until, std::function<void()> stop) : limit_(limit) {
  limit_.passed_ = false;
  const uint64_t turn = ++*limit_.turn_;
  if (until == kNever) return;
  limit_.timer_.expires_at(until);
  // A handler that is queued is not cancelled any more: it must not touch what may be gone.
  limit_.timer_.async_wait([&limit, turn, now = limit_.turn_, stop = std::move(stop)](auto error) {
    if (error || *now != turn) return;
    limit.passed_ = true;
    stop();
  });
}

TimeLimit::Scope::~Scope() {
  ++*limit_.turn_;
  limit_.timer_.cancel();
}

}  // namespace cyllm
