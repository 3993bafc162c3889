// What a gateway counts; names of the contract where it has any.
#pragma once

#include <string>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "gateway/inference_call.h"

namespace cyllm {

// Thread-safe.
class GatewayMetrics {
 public:
  // `path`: of the route, a name of static storage.
  void Count(std::string_view path, const CallOutcome& outcome, Clock::duration took);

  prometheus::Gauge& running = Gauge("gateway_inflight_requests", "Inference requests being answered");

 private:
  struct PerRoute {
    prometheus::Counter* requests;
    prometheus::Histogram* seconds;
  };
  const PerRoute& Route(std::string_view path, int status);

  prometheus::Counter& prompt_tokens_ =
      Counter("gateway_prompt_tokens_total", "Prompt tokens of answered requests, and of those broken off");
  prometheus::Counter& completion_tokens_ = Counter("gateway_completion_tokens_total", "Tokens sent");
  prometheus::Counter& resumed_ =
      Counter("gateway_resumed_answers_total", "Answers that more than one worker gave");
  prometheus::Counter& hangups_ = Counter("gateway_client_hangups_total", "Requests whose client left early");
  prometheus::Histogram& queue_ = LatencyHistogram("gateway_queue_seconds", "Waited for a worker");
  prometheus::Counter& attempts_ = Counter(
      "gateway_attempts_total", "Workers asked for answers, those that took over in mid-stream not counted");
  prometheus::Histogram& ttft_ =
      LatencyHistogram("gateway_ttft_seconds", "From the request to its first token");
  Mutex mutex_;
  std::map<std::pair<std::string_view, int>, PerRoute> routes_ CY_GUARDED_BY(mutex_);
};

}  // namespace cyllm
