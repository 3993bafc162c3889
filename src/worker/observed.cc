#include "worker/observed.h"

namespace cyllm {

namespace {

double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

bool IsClientsMistake(Code code) {
  return code == Code::kInvalidArgument || code == Code::kNotFound || code == Code::kUnimplemented ||
         code == Code::kOutOfRange;
}

class Observed final : public EventSource {
 public:
  Observed(EventStream stream, std::shared_ptr<WorkerMetrics> metrics)
      : stream_(std::move(stream)), metrics_(std::move(metrics)) {
    metrics_->inflight.Increment();
  }
  ~Observed() override {
    if (!ended_) metrics_->cancelled.Increment();
    metrics_->inflight.Decrement();
  }

  Task<NextResult> Next(TimePoint wake_at) override {
    NextResult next = co_await stream_->Next(wake_at);
    if (next.what == NextResult::What::kEvents) Count(next.events);
    if (next.what == NextResult::What::kEnd && !std::exchange(ended_, true)) CountEnd(next.end);
    co_return next;
  }
  void Wake() override { stream_->Wake(); }

 private:
  void Count(const Batch& events) {
    size_t tokens = 0;
    for (const Event& event : events) {
      if (const auto* delta = std::get_if<TextDelta>(&event)) tokens += delta->token_ids.size();
      if (const auto* accepted = std::get_if<Accepted>(&event)) CountAccepted(*accepted);
      if (IsDelta(event) && !std::exchange(first_seen_, true))
        metrics_->ttft.Observe(Seconds(Clock::now() - start_));
    }
    if (tokens > 0) metrics_->tokens.Increment(static_cast<double>(tokens));
  }
  void CountAccepted(const Accepted& accepted) {
    metrics_->prompt_tokens.Increment(accepted.prompt_tokens);
    (accepted.cached_tokens > 0 ? metrics_->cache_hits : metrics_->cache_misses).Increment();
    const double hits = metrics_->cache_hits.Value();
    metrics_->cache_hit_rate.Set(100 * hits / (hits + metrics_->cache_misses.Value()));
  }
  void CountEnd(const Status& end) {
    if (end.ok()) {
      metrics_->success.Increment();
      const double seconds = Seconds(Clock::now() - start_);
      metrics_->latency.Observe(seconds);
      metrics_->latency_ms.Observe(seconds * 1000);
    } else if (!IsClientsMistake(end.code)) {
      metrics_->failed.Increment();
    }
  }

  EventStream stream_;
  const std::shared_ptr<WorkerMetrics> metrics_;
  const TimePoint start_ = Clock::now();
  bool first_seen_ = false, ended_ = false;
};

}  // namespace

EventStream Observe(EventStream stream, std::shared_ptr<WorkerMetrics> metrics) {
  return std::make_unique<Observed>(std::move(stream), std::move(metrics));
}

}  // namespace cyllm
