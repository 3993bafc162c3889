#include "llama_cpp/chunk_budget.h"

#include <gtest/gtest.h>

namespace cyllm::llama {
namespace {

using namespace std::chrono_literals;

TEST(ChunkBudget, BeforeAnythingRan) {
  EXPECT_EQ(ChunkBudget(100ms, 512).Tokens(3), 128u);
  EXPECT_EQ(ChunkBudget(100ms, 8).Tokens(0), 8u);
}

TEST(ChunkBudget, FillsTheTimeThatDecodingLeaves) {
  ChunkBudget budget(100ms, 512);
  budget.Report(8, 0, 20ms);
  budget.Report(0, 40, 40ms);  // 1 ms a token
  EXPECT_EQ(budget.Tokens(8), 80u);
  EXPECT_EQ(budget.Tokens(0), 512u);  // nobody waits for a token
  EXPECT_DOUBLE_EQ(budget.Prefill(300).count(), 0.3);
}

TEST(ChunkBudget, ABigModelsPromptsGetHalfTheTime) {
  ChunkBudget budget(100ms, 512);
  budget.Report(8, 0, 400ms);
  budget.Report(0, 64, 640ms);  // 10 ms a token
  EXPECT_EQ(budget.Tokens(8), 32u);
  budget.Report(0, 100, 10s);
  EXPECT_GE(budget.Tokens(8), 8u);
  EXPECT_EQ(budget.Tokens(0), 128u);
}

TEST(ChunkBudget, StepsComeNearTheTargetWhateverTheMachine) {
  for (const double per_token : {0.0002, 0.001, 0.004}) {
    for (const double per_row : {0.0005, 0.003}) {
      ChunkBudget budget(100ms, 512);
      double last = 0;
      for (int i = 0; i < 100; ++i) {
        const uint32_t rows = 4;
        const uint32_t prompt = budget.Tokens(rows);
        const double decode = 0.004 + per_row * rows, prefill = 0.002 + per_token * prompt;
        budget.Report(rows, 0, ChunkBudget::Seconds(decode));
        budget.Report(0, prompt, ChunkBudget::Seconds(prefill));
        last = decode + prefill;
      }
      EXPECT_LT(last, 0.105) << per_token << " " << per_row;
      EXPECT_GT(last, std::min(0.099 - 16 * per_token, per_token * 500)) << per_token << " " << per_row;
    }
  }
}

TEST(ChunkBudget, OneOddStepChangesLittle) {
  ChunkBudget budget(100ms, 512);
  budget.Report(8, 0, 20ms);
  budget.Report(0, 40, 40ms);
  budget.Report(0, 40, 30s);
  EXPECT_GE(budget.Tokens(8), 48u);
}

}  // namespace
}  // namespace cyllm::llama
