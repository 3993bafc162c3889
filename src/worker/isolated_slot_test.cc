#include "worker/isolated_slot.h"

#include <gtest/gtest.h>

namespace cyllm {
namespace {

TEST(StallWatchTest, OnlyWhatRunsAndStandsStillStalls) {
  StallWatch watch(Millis(100));
  TimePoint now = Clock::now();
  const auto after = [&](int ms, uint32_t running, uint64_t steps) {
    now += Millis(ms);
    return watch.Stalls({running, 0, 0, steps}, now);
  };
  EXPECT_FALSE(after(0, 1, 5));
  EXPECT_FALSE(after(99, 1, 5));
  EXPECT_FALSE(after(1, 1, 6));  // moved
  EXPECT_FALSE(after(99, 1, 6));
  EXPECT_TRUE(after(1, 1, 6));
  EXPECT_FALSE(after(0, 0, 6));    // idle
  EXPECT_FALSE(after(500, 1, 0));  // not counted
  EXPECT_FALSE(after(500, 1, 0));
  EXPECT_FALSE(after(500, 1, 7));
  EXPECT_TRUE(after(100, 1, 7));
}

}  // namespace
}  // namespace cyllm
