#include "llama_cpp/adapter_turns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cyllm::llama {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class AdapterTurnsTest : public ::testing::Test {
 protected:
  std::vector<uint32_t> Order(std::vector<uint32_t> wanted) const {
    return turns_.Order(std::move(wanted), now_);
  }
  uint32_t Step(const std::vector<uint32_t>& wanted, milliseconds took) {
    const uint32_t adapter = Order(wanted).front();
    turns_.Took(adapter, now_);
    now_ += took;
    return adapter;
  }

  AdapterTurns turns_{milliseconds(100)};
  TimePoint now_{};
};

TEST_F(AdapterTurnsTest, RoundAndRound) {
  std::vector<uint32_t> had;
  for (int i = 0; i < 6; ++i) had.push_back(Step({0, 3, 7}, milliseconds(40)));
  EXPECT_THAT(had, ElementsAre(3, 7, 0, 3, 7, 0));
}

TEST_F(AdapterTurnsTest, SeveralShortStepsAreATurn) {
  std::vector<uint32_t> had;
  for (int i = 0; i < 8; ++i) had.push_back(Step({1, 2}, milliseconds(20)));
  EXPECT_THAT(had, ElementsAre(1, 1, 1, 2, 2, 2, 1, 1));
}

TEST_F(AdapterTurnsTest, WhoComesToOneThatWasAloneHasTheNextStep) {
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Step({2}, milliseconds(20)), 2u);
  EXPECT_EQ(Step({1, 2}, milliseconds(20)), 1u);
  EXPECT_EQ(Step({1, 2}, milliseconds(40)), 1u);
  EXPECT_EQ(Step({1, 2}, milliseconds(20)), 2u);
}

TEST_F(AdapterTurnsTest, WhoHasNothingToComputeIsPassedOver) {
  EXPECT_THAT(Order({}), IsEmpty());
  EXPECT_TRUE(turns_.Took(2, now_));
  EXPECT_FALSE(turns_.Took(2, now_));
  EXPECT_THAT(Order({0, 1, 2, 4}), ElementsAre(2, 4, 0, 1));
  EXPECT_THAT(Order({0, 1, 4}), ElementsAre(4, 0, 1));
  now_ += milliseconds(100);
  EXPECT_THAT(Order({0, 1, 2, 4}), ElementsAre(4, 0, 1, 2));
}

}  // namespace
}  // namespace cyllm::llama
