// The contract's metrics of a worker, fed by the streams that pass through it.
#pragma once

#include <memory>

#include "base/metrics.h"
#include "inference/service.h"

namespace cyllm {

struct WorkerMetrics {
  prometheus::Gauge& inflight = Gauge("worker_inflight_requests", "Requests running or waiting");
  prometheus::Counter& success = Counter("worker_success_total", "Requests answered");
  prometheus::Counter& failed =
      Counter("worker_failed_total", "Requests that ended in an error of the server");
  prometheus::Counter& cancelled = Counter("worker_cancelled_total", "Requests that their callers gave up");
  prometheus::Counter& tokens = Counter("worker_tokens_total", "Tokens generated");
  prometheus::Counter& prompt_tokens = Counter("worker_prompt_tokens_total", "Prompt tokens taken in");
  prometheus::Counter& cache_hits =
      Counter("worker_cache_hits_total", "Requests whose prompt was cached, in part");
  prometheus::Counter& cache_misses =
      Counter("worker_cache_misses_total", "Requests of which nothing was cached");
  prometheus::Gauge& cache_hit_rate =
      Gauge("worker_cache_hit_rate_percent", "Hits of all that were accepted");
  prometheus::Histogram& latency =
      LatencyHistogram("worker_latency_seconds", "From submit to the end of the answer");
  prometheus::Summary& latency_ms =
      LatencySummaryMs("worker_latency_ms", "The same, over the last ten minutes");
  prometheus::Histogram& ttft = LatencyHistogram("worker_ttft_seconds", "From submit to the first token");
};

// `stream`, counted. A stream that is dropped counts as cancelled; one that the client's mistake ended as
// neither.
EventStream Observe(EventStream stream, std::shared_ptr<WorkerMetrics> metrics);

}  // namespace cyllm
