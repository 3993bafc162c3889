#include "worker/engine_host/engine_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

namespace cyllm {
namespace {

using testing::HasSubstr;

// Of one model; the metrics of a process stay.
struct Lines {
  const std::string model = "m" + std::to_string(count++);
  std::string operator()(const std::string& name, int value) const {
    return "\nworker_engine_" + name + "{model=\"" + model + "\"} " + std::to_string(value) + "\n";
  }
  static inline int count = 0;
};

TEST(EngineMetricsTest, AreWhatTheEngineSaysWhenAsked) {
  const Lines line;
  cyllm_stats stats{};
  std::optional<EngineMetrics> metrics;
  metrics.emplace(line.model, [&] { return stats; });
  stats.running = 2;
  stats.kv_cells_used = 30;
  stats.steps = 7;
  stats.draft_tokens = 5;
  EXPECT_THAT(RenderMetrics(), HasSubstr(line("requests_running", 2)));
  EXPECT_THAT(RenderMetrics(), HasSubstr(line("kv_tokens_used", 30)));
  EXPECT_THAT(RenderMetrics(), HasSubstr(line("steps_total", 7)));
  EXPECT_THAT(RenderMetrics(), HasSubstr(line("draft_tokens_total", 5)));
  stats.steps = 9;
  EXPECT_THAT(RenderMetrics(), HasSubstr(line("steps_total", 9)));

  metrics.reset();  // unloaded
  EXPECT_THAT(RenderMetrics(), HasSubstr(line("requests_running", 0)));
  EXPECT_THAT(RenderMetrics(), HasSubstr(line("steps_total", 9)));

  stats.steps = 3;  // another engine, which counts from the start
  metrics.emplace(line.model, [&] { return stats; });
  EXPECT_THAT(RenderMetrics(), HasSubstr(line("steps_total", 12)));
}

}  // namespace
}  // namespace cyllm
