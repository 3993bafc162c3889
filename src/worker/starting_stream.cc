#include "worker/starting_stream.h"

#include <algorithm>
#include <utility>

#include "async/signal.h"

namespace cyllm {

namespace {

constexpr Millis kLook{100};  // how often those who wait look whether it is there

class StartingStream final : public EventSource {
 public:
  StartingStream(std::shared_ptr<Startable> startable, std::string id, Request request, Context context)
      : startable_(std::move(startable)),
        id_(std::move(id)),
        request_(std::move(request)),
        context_(std::move(context)),
        news_(context_.home) {}

  Task<NextResult> Next(TimePoint wake_at) override {
    while (!stream_) {
      NextResult result;
      if (!told_) {
        told_ = true;
        result.what = NextResult::What::kEvents;
        result.events.push_back(Progress{Progress::Phase::kLoading, -1, "starting " + id_});
        co_return result;
      }
      if (startable_->Usable()) {
        stream_ = startable_->Send(request_, context_);
      } else if (Status trouble = startable_->Trouble(); !trouble.ok()) {
        stream_ = EndedStream(std::move(trouble));
      } else {
        const TimePoint now = Clock::now();
        const bool waits = wake_at != kPoll && now < wake_at && !std::exchange(woken_, false);
        if (!waits) {
          result.what = NextResult::What::kTimeout;
          co_return result;
        }
        co_await news_.Wait(std::min(wake_at, now + kLook));
        startable_->StartLoad();
      }
    }
    co_return co_await stream_->Next(wake_at);
  }
  void Wake() override {
    if (stream_) return stream_->Wake();
    woken_ = true;
    news_.Notify();
  }

 private:
  const std::shared_ptr<Startable> startable_;
  const std::string id_;
  const Request request_;
  const Context context_;
  Signal news_;
  EventStream stream_;
  bool told_ = false, woken_ = false;
};

}  // namespace

EventStream WaitForStart(std::shared_ptr<Startable> startable, std::string id, Request request,
                         Context context) {
  startable->StartLoad();
  return std::make_unique<StartingStream>(std::move(startable), std::move(id), std::move(request),
                                          std::move(context));
}

}  // namespace cyllm
