#include "worker/engine_host/stall_watch.h"

#include <gtest/gtest.h>

namespace cyllm {
namespace {

using Owes = StallWatch::Owes;

class StallWatchTest : public testing::Test {
 protected:
  bool After(int ms, Owes owes, uint64_t moves) {
    now_ += Millis(ms);
    return watch_.Stalls(owes, moves, now_);
  }
  // Steps at this pace, until it is known.
  void Learn(int ms) {
    for (int i = 0; i < 20; ++i) EXPECT_FALSE(After(ms, Owes::kStep, ++moves_));
  }

  StallWatch watch_{{Millis(60'000), Millis(5'000)}};
  TimePoint now_{};
  uint64_t moves_ = 0;
};

TEST_F(StallWatchTest, WhatIsNotKnownHasTime) {
  EXPECT_FALSE(After(0, Owes::kStep, 0));
  EXPECT_FALSE(After(59'999, Owes::kStep, 0));  // its first step
  EXPECT_TRUE(After(1, Owes::kStep, 0));
  EXPECT_TRUE(After(1, Owes::kStep, 0));
  EXPECT_FALSE(After(1, Owes::kStep, 1));
}

TEST_F(StallWatchTest, ShortStepsAreMissedSoon) {
  Learn(500);
  EXPECT_FALSE(After(4'999, Owes::kStep, moves_));
  EXPECT_TRUE(After(1, Owes::kStep, moves_));
}

TEST_F(StallWatchTest, ItsLongestStepSaysHowLongTheNextMayTake) {
  Learn(500);
  EXPECT_FALSE(After(4'000, Owes::kStep, ++moves_));
  EXPECT_FALSE(After(31'999, Owes::kStep, moves_));
  EXPECT_TRUE(After(1, Owes::kStep, moves_));
  EXPECT_FALSE(After(1, Owes::kStep, ++moves_));  // it did not hang after all
  EXPECT_FALSE(After(59'999, Owes::kStep, moves_));
  EXPECT_TRUE(After(1, Owes::kStep, moves_));
}

TEST_F(StallWatchTest, WhatIsNoStepHasTime) {
  Learn(500);
  EXPECT_FALSE(After(59'999, Owes::kSomething, moves_));
  EXPECT_TRUE(After(1, Owes::kSomething, moves_));
}

TEST_F(StallWatchTest, IdlenessIsNoStall) {
  Learn(500);
  EXPECT_FALSE(After(100'000, Owes::kNothing, moves_));
  EXPECT_FALSE(After(100'000, Owes::kNothing, moves_));
  EXPECT_FALSE(After(4'999, Owes::kStep, moves_));
  EXPECT_TRUE(After(1, Owes::kStep, moves_));
  EXPECT_FALSE(After(1, Owes::kStep, ++moves_));
}

TEST_F(StallWatchTest, IdlenessIsNoLongStep) {
  Learn(500);
  EXPECT_FALSE(After(1, Owes::kNothing, ++moves_));
  EXPECT_FALSE(After(50'000, Owes::kStep, ++moves_));  // asked for and given since the last look
  EXPECT_TRUE(After(5'000, Owes::kStep, moves_));
}

TEST_F(StallWatchTest, OffIsNever) {
  StallWatch off({Millis(0), Millis(5'000)});
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(off.Stalls(Owes::kStep, 1, now_ += Millis(10'000)));
}

}  // namespace
}  // namespace cyllm
