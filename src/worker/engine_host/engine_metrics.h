// What an engine tells of itself (cyllm_stats), as metrics of this process with the label `model`.
#pragma once

#include <array>
#include <functional>
#include <string>

#include "base/metrics.h"
#include "sdk/engine.h"

namespace cyllm {

// While it lives, each rendering of the metrics asks `stats`, from any thread. A model that was loaded again
// goes on counting where it was.
class EngineMetrics {
 public:
  EngineMetrics(const std::string& model, std::function<cyllm_stats()> stats);
  ~EngineMetrics();  // then nothing runs, waits or is held
  EngineMetrics(const EngineMetrics&) = delete;
  EngineMetrics& operator=(const EngineMetrics&) = delete;

 private:
  struct Total {
    prometheus::Counter& counter;
    uint64_t cyllm_stats::* value;
    uint64_t counted = 0;
  };
  void Update(const cyllm_stats& stats);

  const std::function<cyllm_stats()> stats_;
  prometheus::Gauge &running_, &waiting_, &kv_used_, &kv_total_;
  std::array<Total, 8> totals_;
  MetricsUpdate update_;  // the last: calls into the others
};

}  // namespace cyllm
