#include "base/metrics.h"

#include <prometheus/text_serializer.h>

namespace cyllm {

prometheus::Registry& MetricsRegistry() {
  static auto* registry = new prometheus::Registry;  // outlives every thread that still counts
  return *registry;
}

prometheus::Counter& Counter(const std::string& name, const std::string& help, const Labels& labels) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(MetricsRegistry()).Add(labels);
}

prometheus::Gauge& Gauge(const std::string& name, const std::string& help, const Labels& labels) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(MetricsRegistry()).Add(labels);
}

prometheus::Histogram& LatencyHistogram(const std::string& name, const std::string& help,
                                        const Labels& labels) {
  static const prometheus::Histogram::BucketBoundaries kSeconds = {
      0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120};
  return prometheus::BuildHistogram().Name(name).Help(help).Register(MetricsRegistry()).Add(labels, kSeconds);
}

prometheus::Summary& LatencySummaryMs(const std::string& name, const std::string& help) {
  static const prometheus::Summary::Quantiles kQuantiles = {{0.5, 0.05}, {0.95, 0.01}, {0.99, 0.001}};
  return prometheus::BuildSummary()
      .Name(name)
      .Help(help)
      .Register(MetricsRegistry())
      .Add({}, kQuantiles, std::chrono::minutes(10), 5);
}

std::string RenderMetrics() { return prometheus::TextSerializer().Serialize(MetricsRegistry().Collect()); }

}  // namespace cyllm
