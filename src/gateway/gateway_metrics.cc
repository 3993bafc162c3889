#include "gateway/gateway_metrics.h"

namespace cyllm {

const GatewayMetrics::PerRoute& GatewayMetrics::Route(std::string_view path, int status) {
  MutexLock lock(mutex_);
  const auto [it, added] = routes_.try_emplace({path, status});
  if (added) {
    const Labels labels = {{"uri", std::string(path)}, {"status", std::to_string(status)}};
    it->second.requests = &Counter("gateway_requests_total", "Requests answered", labels);
    it->second.seconds =
        &LatencyHistogram("http_server_requests_seconds", "Time to answer a request", labels);
  }
  return it->second;
}

void GatewayMetrics::Count(std::string_view path, const CallOutcome& outcome, Clock::duration took) {
  const PerRoute& route = Route(path, outcome.http);
  route.requests->Increment();
  route.seconds->Observe(std::chrono::duration<double>(took).count());
  prompt_tokens_.Increment(outcome.prompt_tokens);
  completion_tokens_.Increment(outcome.completion_tokens);
  if (outcome.end.code == Code::kCancelled) hangups_.Increment();
  if (outcome.route.resumed() > 0) resumed_.Increment();
  if (const RouteReceipt* receipt = outcome.route.receipt()) {
    queue_.Observe(receipt->queue_ms / 1'000);
    attempts_.Increment(receipt->attempts);
  }
  if (outcome.ttft_s >= 0) ttft_.Observe(outcome.ttft_s);
}

}  // namespace cyllm
