#include "base/metrics.h"

#include <prometheus/text_serializer.h>

#include <set>

#include "base/mutex.h"

namespace cyllm {

namespace {

struct Updates {
  Mutex mutex;
  std::set<const std::function<void()>*> all CY_GUARDED_BY(mutex);
};

Updates& AllUpdates() {
  static auto* updates = new Updates;  // as long as the registry
  return *updates;
}

}  // namespace

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

MetricsUpdate::MetricsUpdate(std::function<void()> update) : update_(std::move(update)) {
  MutexLock lock(AllUpdates().mutex);
  AllUpdates().all.insert(&update_);
}

MetricsUpdate::~MetricsUpdate() {
  MutexLock lock(AllUpdates().mutex);
  AllUpdates().all.erase(&update_);
}

std::string RenderMetrics() {
  {
    MutexLock lock(AllUpdates().mutex);
    for (const auto* update : AllUpdates().all) (*update)();
  }
  return prometheus::TextSerializer().Serialize(MetricsRegistry().Collect());
}

}  // namespace cyllm
