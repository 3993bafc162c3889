#include "worker/deadline.h"

#include <algorithm>

namespace cyllm {

namespace {

class Bounded final : public EventSource {
 public:
  Bounded(EventStream stream, TimePoint deadline) : stream_(std::move(stream)), deadline_(deadline) {}

  Task<NextResult> Next(TimePoint wake_at) override {
    if (stream_) {
      NextResult next = co_await stream_->Next(std::min(wake_at, deadline_));
      if (next.what != NextResult::What::kTimeout || Clock::now() < deadline_) co_return next;
      stream_.reset();
    }
    NextResult over;
    over.end = MakeStatus(Code::kDeadlineExceeded, "the request took longer than it was given", "timeout");
    co_return over;
  }
  void Wake() override {
    if (stream_) stream_->Wake();
  }

 private:
  EventStream stream_;  // null: the deadline has passed
  const TimePoint deadline_;
};

}  // namespace

EventStream UntilDeadline(EventStream stream, TimePoint deadline) {
  if (deadline == kNever) return stream;
  return std::make_unique<Bounded>(std::move(stream), deadline);
}

}  // namespace cyllm
