// Metrics of this process: one prometheus-cpp registry, rendered for GET /metrics. Thread-safe.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/summary.h>

#include <functional>
#include <map>
#include <string>

namespace cyllm {

using Labels = std::map<std::string, std::string>;

// Lives as long as the process. Keep the returned references: looking one up takes a lock.
// Label values come from closed sets (never from clients), so that the number of series is bounded.
prometheus::Registry& MetricsRegistry();

prometheus::Counter& Counter(const std::string& name, const std::string& help, const Labels& labels = {});
prometheus::Gauge& Gauge(const std::string& name, const std::string& help, const Labels& labels = {});
// Seconds, with buckets from 1 ms to 2 minutes.
prometheus::Histogram& LatencyHistogram(const std::string& name, const std::string& help,
                                        const Labels& labels = {});
// Milliseconds, with quantiles 0.5, 0.95 and 0.99 over the last ten minutes (the contract's form).
prometheus::Summary& LatencySummaryMs(const std::string& name, const std::string& help);

// For what is read only when somebody asks for metrics: `update` is called before each rendering, on its
// thread, and must not make or destroy another one. The destructor waits for a call that is being made.
class MetricsUpdate {
 public:
  explicit MetricsUpdate(std::function<void()> update);
  ~MetricsUpdate();
  MetricsUpdate(const MetricsUpdate&) = delete;
  MetricsUpdate& operator=(const MetricsUpdate&) = delete;

 private:
  const std::function<void()> update_;
};

// Prometheus text format 0.0.4.
std::string RenderMetrics();

}  // namespace cyllm
