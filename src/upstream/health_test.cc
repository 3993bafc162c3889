#include "upstream/health.h"

#include <gtest/gtest.h>

namespace cyllm::upstream {
namespace {

using Probe = Health::Probe;
constexpr TimePoint kNow = TimePoint{} + std::chrono::hours(1);

TEST(Health, NotBeforeTheFirstProbe) {
  Health health;
  EXPECT_FALSE(health.ready(kNow));
  health.OnProbe(Probe::kServes, kNow);
  EXPECT_TRUE(health.ready(kNow));
  EXPECT_EQ(health.reason(kNow), "");
}

TEST(Health, ARefusalCountsAtOnceSilenceAfterAWhile) {
  Health health;
  health.OnProbe(Probe::kServes, kNow);
  health.OnProbe(Probe::kSilent, kNow + Millis(1));
  health.OnProbe(Probe::kSilent, kNow + Millis(2));
  EXPECT_TRUE(health.ready(kNow));
  EXPECT_EQ(health.silent_since(), kNever);
  health.OnProbe(Probe::kSilent, kNow + Millis(3));
  EXPECT_FALSE(health.ready(kNow));
  EXPECT_EQ(health.silent_since(), kNow + Millis(1));
  health.OnProbe(Probe::kServes, kNow);
  EXPECT_TRUE(health.ready(kNow));
  EXPECT_EQ(health.silent_since(), kNever);
  health.OnProbe(Probe::kRefuses, kNow);
  EXPECT_FALSE(health.ready(kNow));
}

TEST(Health, AServerThatFailsIsLetAloneLongerEachTime) {
  Health health;
  health.OnProbe(Probe::kServes, kNow);
  TimePoint now = kNow;
  health.OnServerError(now);
  health.OnServerError(now);
  EXPECT_TRUE(health.ready(now));
  for (const int seconds : {1, 2, 4, 8, 16, 30, 30}) {
    health.OnServerError(now);
    EXPECT_FALSE(health.ready(now + Millis(1000 * seconds - 1))) << seconds;
    health.OnProbe(Probe::kServes, now);  // its health says nothing about it
    EXPECT_FALSE(health.ready(now + Millis(1000 * seconds - 1))) << seconds;
    now += Millis(1000 * seconds);
    EXPECT_TRUE(health.ready(now)) << seconds;  // one may try
  }
  health.OnAnswer();
  health.OnServerError(now);
  health.OnServerError(now);
  EXPECT_TRUE(health.ready(now));
}

TEST(Health, AnAnswerInBetweenForgives) {
  Health health;
  health.OnProbe(Probe::kServes, kNow);
  for (int i = 0; i < 10; ++i) {
    health.OnServerError(kNow);
    health.OnServerError(kNow);
    health.OnAnswer();
  }
  EXPECT_TRUE(health.ready(kNow));
}

TEST(Health, AServerThatWasGoneIsNotHeldAgainst) {
  Health health;
  health.OnProbe(Probe::kServes, kNow);
  for (int i = 0; i < 10; ++i) health.OnServerError(kNow);
  EXPECT_EQ(health.reason(kNow), "the model's server fails");
  health.OnProbe(Probe::kRefuses, kNow);
  health.OnProbe(Probe::kServes, kNow);
  EXPECT_TRUE(health.ready(kNow));
}

TEST(Health, NobodyThere) {
  Health health;
  health.OnProbe(Probe::kServes, kNow);
  health.OnUnreachable();
  EXPECT_FALSE(health.ready(kNow));
  health.OnProbe(Probe::kServes, kNow);
  EXPECT_TRUE(health.ready(kNow));
}

}  // namespace
}  // namespace cyllm::upstream
