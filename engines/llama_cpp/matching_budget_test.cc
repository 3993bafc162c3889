#include "llama_cpp/matching_budget.h"

#include <gtest/gtest.h>

namespace cyllm::llama {
namespace {

using namespace std::chrono_literals;

TEST(MatchingBudgetTest, IsClosedUntilWhatWasSpentHasFilledUpAgain) {
  MatchingBudget budget(50ms, 0.25);
  TimePoint now{};
  EXPECT_TRUE(budget.Open(now));
  budget.Spent(40ms);
  EXPECT_TRUE(budget.Open(now));
  budget.Spent(110ms);
  EXPECT_FALSE(budget.Open(now));
  EXPECT_FALSE(budget.Open(now += 399ms));
  EXPECT_TRUE(budget.Open(now += 2ms));
}

TEST(MatchingBudgetTest, HoldsNoMoreThanItsMost) {
  MatchingBudget budget(50ms, 0.5);
  TimePoint now{};
  EXPECT_TRUE(budget.Open(now += 1h));
  budget.Spent(60ms);
  EXPECT_FALSE(budget.Open(now += 19ms));
  EXPECT_TRUE(budget.Open(now += 2ms));
}

}  // namespace
}  // namespace cyllm::llama
