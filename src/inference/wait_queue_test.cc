#include "inference/wait_queue.h"

#include <gtest/gtest.h>

#include "async/io_pool.h"

namespace cyllm {
namespace {

constexpr TimePoint kStart{std::chrono::hours(1)};

struct WaitQueueTest : testing::Test {
  std::shared_ptr<WaitQueue::Ticket> Enter(int32_t priority = 0, bool resumes = false) {
    RequestFacts facts;
    facts.model = "m";
    facts.priority = priority;
    facts.resume.epoch = resumes;
    const auto ticket = queue.Enter(facts.model, facts, pool.At(0), now, kNever);
    return ticket ? *ticket : nullptr;
  }
  IoPool pool{1};
  WaitQueue queue{{.max_waiting = 4}};
  TimePoint now = kStart;
};

TEST_F(WaitQueueTest, ResumedFirstThenByPriorityThenInOrder) {
  const auto late = Enter(5), first = Enter(), second = Enter(), resumed = Enter(9, true);
  EXPECT_FALSE(queue.TakeTurn(late));
  EXPECT_FALSE(queue.TakeTurn(first));
  EXPECT_TRUE(queue.TakeTurn(resumed));
  EXPECT_TRUE(queue.TakeTurn(first));  // who is before it is trying already
  queue.GiveTurnBack(resumed);
  EXPECT_FALSE(queue.TakeTurn(second));
  queue.Leave(resumed);
  EXPECT_TRUE(queue.TakeTurn(second));
  queue.Leave(first);
  queue.Leave(second);
  EXPECT_TRUE(queue.TakeTurn(late));
  queue.Leave(late);
  EXPECT_TRUE(queue.empty("m"));
}

TEST_F(WaitQueueTest, WhoFindsNobodyHoldsUpThoseThatWantTheSame) {
  const auto tuned = Enter(), plain = Enter(), also_tuned = Enter();
  tuned->wants = also_tuned->wants = 7;
  ASSERT_TRUE(queue.TakeTurn(tuned));
  queue.NobodyTakes(tuned);
  pool.RunBlocking(
      [](WaitQueue::Ticket& next) -> Task<> { EXPECT_TRUE(co_await next.signal.Wait(kNever)); }(*plain));
  EXPECT_FALSE(queue.TakeTurn(also_tuned));
  EXPECT_TRUE(queue.TakeTurn(plain));
  queue.NobodyTakes(plain);
  EXPECT_TRUE(queue.TakeTurn(tuned));  // looks again after a while
  queue.NobodyTakes(tuned);
  queue.Departed("m", now, false);  // all may try again, in order
  EXPECT_FALSE(queue.TakeTurn(plain));
  EXPECT_TRUE(queue.TakeTurn(tuned));
  EXPECT_TRUE(queue.TakeTurn(plain));
}

TEST_F(WaitQueueTest, WhatChangedWhileItTriedIsNotMissed) {
  const auto first = Enter(), second = Enter();
  ASSERT_TRUE(queue.TakeTurn(first));
  queue.Departed("m", now, true);
  queue.NobodyTakes(first);  // it looked before
  EXPECT_FALSE(queue.TakeTurn(second));
  pool.RunBlocking(
      [](WaitQueue::Ticket& next) -> Task<> { EXPECT_TRUE(co_await next.signal.Wait(kNever)); }(*first));
}

TEST_F(WaitQueueTest, WhoHasFailedSomewhereWantsSomethingOfItsOwn) {
  const auto unlucky = Enter(), other = Enter();
  ASSERT_TRUE(queue.TakeTurn(unlucky));
  queue.NobodyTakes(unlucky, 5);
  EXPECT_TRUE(queue.TakeTurn(other));
}

TEST_F(WaitQueueTest, AnOrderDecidesAmongThoseOfOnePriority) {
  struct LeastCharged final : QueueOrder {
    uint64_t Turn(const RequestFacts& facts) override { return charged[facts.tenant]; }
    void Charge(const std::string& tenant, uint64_t tokens) override { charged[tenant] += tokens; }
    std::map<std::string, uint64_t> charged;
  };
  const auto order = std::make_shared<LeastCharged>();
  WaitQueue fair({.order = order});
  fair.Charge("greedy", 100);
  const auto enter = [&](const char* tenant, int32_t priority) {
    RequestFacts facts;
    facts.model = "m";
    facts.tenant = tenant;
    facts.priority = priority;
    return *fair.Enter(facts.model, facts, pool.At(0), now, kNever);
  };
  const auto late = enter("modest", 1), greedy = enter("greedy", 0), modest = enter("modest", 0);
  EXPECT_FALSE(fair.TakeTurn(late));
  EXPECT_FALSE(fair.TakeTurn(greedy));
  EXPECT_TRUE(fair.TakeTurn(modest));
}

TEST_F(WaitQueueTest, IsBounded) {
  std::vector<std::shared_ptr<WaitQueue::Ticket>> tickets;
  for (int i = 0; i < 4; ++i) tickets.push_back(Enter());
  RequestFacts facts;
  facts.model = "m";
  const auto refused = queue.Enter(facts.model, facts, pool.At(0), now, kNever);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  EXPECT_EQ(refused.error().reason, "overloaded");
  EXPECT_GE(refused.error().retry_after, Millis(1'000));
  facts.model = "other";
  EXPECT_TRUE(queue.Enter(facts.model, facts, pool.At(0), now, kNever));
}

TEST_F(WaitQueueTest, ADeadlineThatCannotBeMetIsRefusedAtOnce) {
  const auto ticket = Enter();
  for (int i = 0; i < 200; ++i) queue.Departed("m", now += Millis(2'000), true);  // one every 2 s
  EXPECT_NEAR(static_cast<double>(queue.Estimate("m", 1).count()), 4'000, 50);
  RequestFacts facts;
  facts.model = "m";
  const auto refused = queue.Enter(facts.model, facts, pool.At(0), now, now + Millis(3'000));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().reason, "overloaded");
  EXPECT_NEAR(static_cast<double>(refused.error().retry_after.count()), 4'000, 50);
  EXPECT_TRUE(queue.Enter(facts.model, facts, pool.At(0), now, now + Millis(5'000)));
}

TEST_F(WaitQueueTest, ThePaceIsThatOfAnswersWhileSomebodyWaits) {
  auto ticket = Enter();
  for (int i = 0; i < 200; ++i) {
    queue.Departed("m", now += Millis(1'000), true);
    queue.Departed("m", now, false);  // refused: says nothing about the pace
  }
  const auto pace = [&] { return static_cast<double>(queue.Estimate("m", 0).count()); };
  EXPECT_NEAR(pace(), 1'000, 10);
  queue.Leave(ticket);
  queue.Departed("m", now += Millis(1'000), true);
  queue.Departed("m", now += std::chrono::hours(5), true);  // a quiet afternoon
  EXPECT_NEAR(pace(), 1'000, 10);
  ticket = Enter();
  queue.Departed("m", now += Millis(60'000), true);  // the first since somebody waits again
  EXPECT_NEAR(pace(), 1'000, 10);
}

TEST_F(WaitQueueTest, AnEndWakesTheFirstThatWaits) {
  const auto first = Enter(), second = Enter();
  ASSERT_TRUE(queue.TakeTurn(first));
  queue.Departed("m", now, false);
  pool.RunBlocking([](WaitQueue::Ticket& waiting, WaitQueue::Ticket& trying) -> Task<> {
    EXPECT_TRUE(co_await waiting.signal.Wait(kNever));
    EXPECT_FALSE(co_await trying.signal.Wait(Clock::now()));
  }(*second, *first));
}

}  // namespace
}  // namespace cyllm
