#include "llama_cpp/prompt_lane.h"

#include <gtest/gtest.h>

#include <future>
#include <mutex>
#include <string>
#include <thread>

#include "llama_cpp/fake_model.h"

namespace cyllm::llama {
namespace {

using testing::FakeDecoder;

class PromptLaneTest : public ::testing::Test {
 protected:
  static std::vector<Token> Tokens(char c, size_t n) { return std::vector<Token>(n, c); }
  PromptLane::Prompt Prompt(uint64_t ticket, std::vector<Token> tokens, int32_t priority = 0) {
    const auto size = static_cast<uint32_t>(tokens.size());
    return {ticket, std::move(tokens), size, {}, 0, priority, now_};
  }
  uint32_t RunAll() {
    uint32_t steps = 0;
    while (lane_.Step()) ++steps;
    return steps;
  }
  std::vector<uint64_t> Done() {
    std::vector<uint64_t> out;
    for (const auto& r : lane_.Take()) out.push_back(r.ticket);
    return out;
  }

  TimePoint now_{};
  FakeDecoder decoder_{2, 1024};
  Cores cores_{2};
  uint32_t told_ = 0;
  PromptLane lane_{decoder_, cores_, [this] { return now_; }, [this] { ++told_; }};
};

TEST_F(PromptLaneTest, AResultIsTheWholePromptAndItsLastLogits) {
  lane_.Submit(Prompt(7, Tokens('a', 200)));
  EXPECT_EQ(RunAll(), 3u);  // 64, 64, and the rest, which is not cut once more
  EXPECT_EQ(told_, 1u);
  auto results = lane_.Take();
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].ticket, 7u);
  ASSERT_TRUE(results[0].ok);
  EXPECT_EQ(results[0].logits.at('b'), 10.0f);
  FakeDecoder other(1, 1024);
  ASSERT_TRUE(other.Restore(0, results[0].state));
  EXPECT_EQ(other.held(0), Tokens('a', 200));
  EXPECT_TRUE(lane_.Take().empty());
}

TEST_F(PromptLaneTest, GoesOnBehindAPrefixThatIsGiven) {
  FakeDecoder other(1, 1024);
  std::vector<Row> rows;
  for (uint32_t i = 0; i < 100; ++i) rows.push_back({0, i, 'a', false});
  other.Decode(rows, false);
  auto prompt = Prompt(1, Tokens('a', 120));
  prompt.computed = 90;  // of the 100 that the state has
  ASSERT_TRUE(other.Save(0, &prompt.state));
  lane_.Submit(std::move(prompt));
  EXPECT_EQ(RunAll(), 1u);
  ASSERT_EQ(decoder_.steps.size(), 1u);
  EXPECT_EQ(decoder_.steps[0].size(), 30u);
  EXPECT_EQ(decoder_.held(0), Tokens('a', 120));
}

TEST_F(PromptLaneTest, WhatWasGeneratedComesInStepsOfItsOwn) {
  auto prompt = Prompt(1, Tokens('a', 170));
  prompt.prompt = 70;
  lane_.Submit(std::move(prompt));
  RunAll();
  ASSERT_EQ(decoder_.steps.size(), 3u);
  EXPECT_EQ(decoder_.steps[0].size(), 70u);
  EXPECT_EQ(decoder_.steps[1].size(), 63u);
  EXPECT_EQ(decoder_.steps[2].size(), 37u);
  EXPECT_TRUE(lane_.Take().at(0).ok);
}

TEST_F(PromptLaneTest, ShortPromptsPassLongOnesAndWaitingCounts) {
  decoder_.on_decode = [&](const auto&) { now_ += std::chrono::milliseconds(640); };  // 10 ms per token
  lane_.Submit(Prompt(1, Tokens('a', 640)));
  lane_.Step();
  lane_.Submit(Prompt(2, Tokens('b', 64)));
  lane_.Step();
  EXPECT_EQ(Done(), (std::vector<uint64_t>{2}));
  now_ += std::chrono::seconds(20);
  lane_.Submit(Prompt(3, Tokens('c', 64)));  // the first one has waited long enough
  RunAll();
  EXPECT_EQ(Done(), (std::vector<uint64_t>{1, 3}));
}

TEST_F(PromptLaneTest, LowerPriorityNumbersFirstAndOthersWaitForASeat) {
  lane_.Submit(Prompt(1, Tokens('a', 200), 5));
  lane_.Submit(Prompt(2, Tokens('b', 300), 1));
  lane_.Submit(Prompt(3, Tokens('c', 64), 0));  // no seat yet
  RunAll();
  EXPECT_EQ(Done(), (std::vector<uint64_t>{2, 3, 1}));
}

TEST_F(PromptLaneTest, CancelledInEachPhase) {
  lane_.Submit(Prompt(1, Tokens('a', 200)));
  lane_.Submit(Prompt(2, Tokens('b', 200)));
  lane_.Submit(Prompt(3, Tokens('c', 200)));
  lane_.Cancel(3);  // without a seat
  lane_.Step();
  lane_.Cancel(1);                                             // between its steps
  decoder_.on_decode = [&](const auto&) { lane_.Cancel(2); };  // in a step
  EXPECT_EQ(RunAll(), 1u);
  EXPECT_TRUE(Done().empty());
  EXPECT_EQ(told_, 0u);
  decoder_.on_decode = nullptr;
  lane_.Submit(Prompt(4, Tokens('d', 100)));
  RunAll();
  lane_.Cancel(4);  // with its result there
  EXPECT_TRUE(Done().empty());
  lane_.Submit(Prompt(5, Tokens('e', 100)));
  RunAll();
  EXPECT_EQ(Done(), (std::vector<uint64_t>{5}));
}

TEST_F(PromptLaneTest, WhatFailsIsToldAndOthersGoOn) {
  auto broken = Prompt(1, Tokens('a', 100));
  broken.computed = 50;
  decoder_.restores = false;
  lane_.Submit(std::move(broken));
  lane_.Submit(Prompt(2, Tokens('b', 100)));
  RunAll();
  auto results = lane_.Take();
  ASSERT_EQ(results.size(), 2u);
  EXPECT_FALSE(results[0].ok);
  EXPECT_TRUE(results[1].ok);
  decoder_.fails = true;
  lane_.Submit(Prompt(3, Tokens('c', 100)));
  RunAll();
  results = lane_.Take();
  ASSERT_EQ(results.size(), 1u);
  EXPECT_FALSE(results[0].ok);
}

TEST_F(PromptLaneTest, AThreadRunsUntilItIsStopped) {
  std::promise<void> done;
  std::once_flag first;  // whether the second one is ready before Stop is open
  PromptLane lane(
      decoder_, cores_, [this] { return now_; }, [&] { std::call_once(first, [&] { done.set_value(); }); });
  std::thread thread([&] { lane.Run(); });
  lane.Submit(Prompt(1, Tokens('a', 300)));
  done.get_future().wait();
  EXPECT_EQ(lane.Take().size(), 1u);
  lane.Submit(Prompt(2, Tokens('b', 300)));
  lane.Stop();
  thread.join();
}

}  // namespace
}  // namespace cyllm::llama
