#include "inference/breaker.h"

#include <gtest/gtest.h>

namespace cyllm {
namespace {

using State = Breaker::State;
constexpr TimePoint kStart{std::chrono::hours(1)};

struct BreakerTest : testing::Test {
  void Fail(int times) {
    for (int i = 0; i < times; ++i) breaker.Ended(Verdict::kBad, false, now);
  }
  Breaker breaker;
  TimePoint now = kStart;
};

TEST_F(BreakerTest, OpensAfterFailuresInARowAndClosesByAProbe) {
  Fail(4);
  breaker.Ended(Verdict::kGood, false, now);
  Fail(4);
  EXPECT_EQ(breaker.state(now), State::kClosed);
  Fail(1);
  EXPECT_EQ(breaker.state(now), State::kOpen);
  now += Millis(1'000);
  EXPECT_EQ(breaker.state(now), State::kHalfOpen);
  EXPECT_TRUE(breaker.Send(now));
  EXPECT_EQ(breaker.state(now), State::kOpen);  // one probe at a time
  EXPECT_FALSE(breaker.Send(now));
  breaker.Ended(Verdict::kGood, true, now);
  EXPECT_EQ(breaker.state(now), State::kClosed);
}

TEST_F(BreakerTest, StaysOpenLongerWhileProbesFail) {
  Fail(5);
  Millis open(1'000);
  for (int i = 0; i < 8; ++i) {
    now += open;
    ASSERT_EQ(breaker.state(now), State::kHalfOpen) << i;
    ASSERT_TRUE(breaker.Send(now));
    breaker.Ended(Verdict::kBad, true, now);
    open = std::min(open * 2, Millis(30'000));
    EXPECT_EQ(breaker.state(now + open - Millis(1)), State::kOpen) << i;
  }
}

TEST_F(BreakerTest, AProbeWithoutVerdictMakesRoomForTheNext) {
  Fail(5);
  now += Millis(1'000);
  ASSERT_TRUE(breaker.Send(now));
  breaker.Ended(Verdict::kNone, true, now);  // its client left
  EXPECT_EQ(breaker.state(now), State::kHalfOpen);
  ASSERT_TRUE(breaker.Send(now));
  now += Millis(10'000);  // it was never heard of again
  EXPECT_EQ(breaker.state(now), State::kHalfOpen);
}

TEST(Judge, WhoseFaultItIs) {
  const Status busy = Unavailable("full", "overloaded");
  const struct {
    Status end;
    bool delivered;
    Verdict verdict;
  } rows[] = {
      {Status::Ok(), true, Verdict::kGood},
      {InvalidArgument("no"), false, Verdict::kNone},
      {MakeStatus(Code::kNotFound, "no"), false, Verdict::kNone},
      {MakeStatus(Code::kCancelled, "left"), false, Verdict::kNone},
      {MakeStatus(Code::kCancelled, "left"), true, Verdict::kGood},
      {MakeStatus(Code::kDeadlineExceeded, "late"), false, Verdict::kNone},
      {MakeStatus(Code::kUnimplemented, "cannot"), false, Verdict::kNone},
      {busy, false, Verdict::kNone},
      {Unavailable("away", "draining"), true, Verdict::kNone},
      {Unavailable("lost", "connection_lost"), true, Verdict::kBad},
      {Unavailable("lost", "connection_lost"), false, Verdict::kBad},
      {MakeStatus(Code::kInternal, "broken"), true, Verdict::kBad},
  };
  for (const auto& row : rows) EXPECT_EQ(Judge(row.end, row.delivered), row.verdict) << row.end.ToString();
}

TEST_F(BreakerTest, AnyNumberOfClientErrorsChangesNothing) {
  for (int i = 0; i < 1'000; ++i) breaker.Ended(Judge(InvalidArgument("no"), false), false, now);
  EXPECT_EQ(breaker.state(now), State::kClosed);
}

}  // namespace
}  // namespace cyllm
