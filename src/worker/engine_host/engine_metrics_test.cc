#include "worker/engine_host/engine_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

namespace cyllm {
namespace {

using testing::HasSubstr;

std::string Line(const std::string& name, int value) {
  return "\nworker_engine_" + name + "{model=\"m\"} " + std::to_string(value) + "\n";
}

TEST(EngineMetricsTest, AreWhatTheEngineSaysWhenAsked) {
  cyllm_stats stats{};
  std::optional<EngineMetrics> metrics;
  metrics.emplace("m", [&] { return stats; });
  stats.running = 2;
  stats.kv_cells_used = 30;
  stats.steps = 7;
  stats.draft_tokens = 5;
  EXPECT_THAT(RenderMetrics(), HasSubstr(Line("requests_running", 2)));
  EXPECT_THAT(RenderMetrics(), HasSubstr(Line("kv_tokens_used", 30)));
  EXPECT_THAT(RenderMetrics(), HasSubstr(Line("steps_total", 7)));
  EXPECT_THAT(RenderMetrics(), HasSubstr(Line("draft_tokens_total", 5)));
  stats.steps = 9;
  EXPECT_THAT(RenderMetrics(), HasSubstr(Line("steps_total", 9)));

  metrics.reset();  // unloaded
  EXPECT_THAT(RenderMetrics(), HasSubstr(Line("requests_running", 0)));
  EXPECT_THAT(RenderMetrics(), HasSubstr(Line("steps_total", 9)));

  stats.steps = 3;  // another engine, which counts from the start
  metrics.emplace("m", [&] { return stats; });
  EXPECT_THAT(RenderMetrics(), HasSubstr(Line("steps_total", 12)));
}

}  // namespace
}  // namespace cyllm
