#include "gateway/gateway_metrics.h"

namespace cyllm {

namespace {

// A closed set: clients choose paths.
std::string RouteOf(const std::string& path) {
  for (const char* known :
       {"/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/ready", "/metrics"}) {
    if (path == known) return known;
  }
  return path.starts_with("/v1/models/") ? "/v1/models/{id}" : "other";
}

}  // namespace

const GatewayMetrics::PerRoute& GatewayMetrics::Route(const std::string& path, int status) {
  std::string route = RouteOf(path);
  MutexLock lock(mutex_);
  const auto [it, added] = routes_.try_emplace({std::move(route), status});
  if (added) {
    const Labels labels = {{"uri", it->first.first}, {"status", std::to_string(status)}};
    it->second.requests = &Counter("gateway_requests_total", "Requests answered", labels);
    it->second.seconds =
        &LatencyHistogram("http_server_requests_seconds", "Time to answer a request", labels);
  }
  return it->second;
}

void GatewayMetrics::Count(const std::string& path, const CallOutcome& outcome, Clock::duration took) {
  const PerRoute& route = Route(path, outcome.http);
  route.requests->Increment();
  route.seconds->Observe(std::chrono::duration<double>(took).count());
  prompt_tokens_.Increment(outcome.totals.prompt_tokens);
  completion_tokens_.Increment(outcome.totals.completion_tokens);
  if (outcome.end.code == Code::kCancelled) hangups_.Increment();
  if (outcome.ttft_s >= 0) ttft_.Observe(outcome.ttft_s);
}

}  // namespace cyllm
