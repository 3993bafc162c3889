#include "inference/event_pipe.h"

#include <iterator>

#include "async/signal.h"
#include "base/mutex.h"

namespace cyllm {

struct EventPipe::State {
  explicit State(Executor home) : signal(std::move(home)) {}
  Signal signal;
  Mutex mutex;
  Batch events CY_GUARDED_BY(mutex);
  bool ended CY_GUARDED_BY(mutex) = false;
  bool dropped CY_GUARDED_BY(mutex) = false;
  Status end CY_GUARDED_BY(mutex);
};

class PipeStream final : public EventSource {
 public:
  PipeStream(std::shared_ptr<EventPipe::State> state, std::shared_ptr<PipeListener> listener)
      : state_(std::move(state)), listener_(std::move(listener)) {}

  ~PipeStream() override {
    bool running = false;
    {
      MutexLock lock(state_->mutex);
      running = !state_->ended;
      state_->dropped = true;
      state_->events.clear();
    }
    if (running && listener_) listener_->OnDropped();
  }

  Task<NextResult> Next(TimePoint wake_at) override {
    while (true) {
      NextResult result;
      if (Take(result)) {
        if (result.what == NextResult::What::kEvents && listener_) {
          uint32_t deltas = 0;
          for (const Event& event : result.events) deltas += IsDelta(event);
          if (deltas > 0) listener_->OnTaken(deltas);
        }
        co_return result;
      }
      if (wake_at == kPoll || std::exchange(woken_, false) || !co_await state_->signal.Wait(wake_at)) {
        result.what = NextResult::What::kTimeout;
        co_return result;
      }
    }
  }

  void Wake() override {
    woken_ = true;
    state_->signal.Notify();
  }

 private:
  bool Take(NextResult& result) {
    MutexLock lock(state_->mutex);
    if (!state_->events.empty()) {
      result.what = NextResult::What::kEvents;
      result.events = std::exchange(state_->events, {});
      return true;
    }
    if (state_->ended) {
      result.what = NextResult::What::kEnd;
      result.end = state_->end;
      return true;
    }
    return false;
  }

  std::shared_ptr<EventPipe::State> state_;
  std::shared_ptr<PipeListener> listener_;
  bool woken_ = false;  // on home only
};

EventPipe::EventPipe(std::shared_ptr<State> state) : state_(std::move(state)) {}

EventPipe::~EventPipe() { End(MakeStatus(Code::kInternal, "the producer went away without an answer")); }

std::pair<std::shared_ptr<EventPipe>, EventStream> EventPipe::Make(Executor home,
                                                                   std::shared_ptr<PipeListener> listener) {
  auto state = std::make_shared<State>(std::move(home));
  std::shared_ptr<EventPipe> pipe(new EventPipe(state));
  return {std::move(pipe), std::make_unique<PipeStream>(std::move(state), std::move(listener))};
}

void EventPipe::Push(Batch events) {
  if (events.empty()) return;
  {
    MutexLock lock(state_->mutex);
    if (state_->ended || state_->dropped) return;
    if (state_->events.empty()) {
      state_->events = std::move(events);
    } else {
      std::move(events.begin(), events.end(), std::back_inserter(state_->events));
    }
  }
  state_->signal.Notify();
}

void EventPipe::Push(Event event) {
  Batch batch;
  batch.push_back(std::move(event));
  Push(std::move(batch));
}

void EventPipe::End(Status status) {
  {
    MutexLock lock(state_->mutex);
    if (state_->ended) return;
    state_->ended = true;
    state_->end = std::move(status);
    if (state_->dropped) return;
  }
  state_->signal.Notify();
}

bool EventPipe::dropped() const {
  MutexLock lock(state_->mutex);
  return state_->dropped;
}

}  // namespace cyllm
