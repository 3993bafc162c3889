#include "inference/fullness.h"

#include <gtest/gtest.h>

namespace cyllm {
namespace {

TEST(FullnessTest, IsOfOneModelForAWhileOrUntilSomethingEnds) {
  Fullness full;
  const TimePoint now = Clock::now(), later = now + Millis(50);
  EXPECT_FALSE(full.Has("m", now));
  EXPECT_FALSE(full.Clear());
  full.Set("m", now, later);
  EXPECT_TRUE(full.Has("m", now));
  EXPECT_FALSE(full.Has("other", now));
  EXPECT_FALSE(full.Has("m", later));
  full.Set("other", later, later + Millis(50));
  EXPECT_FALSE(full.Has("m", now)) << "what is past is forgotten";
  EXPECT_TRUE(full.Clear());
  EXPECT_FALSE(full.Clear());
  EXPECT_FALSE(full.Has("other", later));
}

}  // namespace
}  // namespace cyllm
