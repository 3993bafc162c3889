// The scheduler with a prompt lane beside it.
#include <gtest/gtest.h>

#include "llama_cpp/fake_model.h"
#include "llama_cpp/scheduler.h"
#include "llama_cpp/scheduler_fixture.h"

namespace cyllm::llama {
namespace {

using testing::SchedulerTest;
using testing::TestRequest;

class LaneTest : public SchedulerTest {
 protected:
  LaneTest() { seats_ = 2; }
  static std::string Long(char c, size_t n = 100) { return std::string(n, c); }
  size_t Rows() const { return decoder_->steps.back().size(); }
};

TEST_F(LaneTest, ALongPromptIsComputedThereWhileOthersDecode) {
  Make(4, 512, 256);
  Add(1, "a", 20);
  Step();
  Add(2, Long('m'), 3);
  for (int i = 0; i < 5; ++i) {
    Step();
    EXPECT_EQ(Rows(), 1u);  // of the one that decodes
  }
  EXPECT_EQ(scheduler_->stats().requests, 2u);
  while (lane_->Step()) {
  }
  Step();
  EXPECT_EQ(Text(2), "no");  // its first token with the landing, the second with the step
  EXPECT_EQ(Rows(), 2u);
  RunAll();
  EXPECT_EQ(Text(1), "bcdefghijklmnopqrstu");
  EXPECT_EQ(Text(2), "nop");
  EXPECT_EQ(scheduler_->stats().prefilled, 101u);
}

TEST_F(LaneTest, AloneOrShortItStaysHere) {
  Make(4, 512, 256);
  Add(1, Long('a'), 8);
  Step();
  EXPECT_EQ(Rows(), 100u);
  Add(2, "mm", 3);
  Step();
  Step();
  EXPECT_TRUE(prompts_->steps.empty());
  EXPECT_FALSE(lane_->Step());
}

TEST_F(LaneTest, APromptBegunHereGoesOnThere) {
  step_takes_ = std::chrono::milliseconds(10);
  Make(4, 64, 1024);
  Add(1, Long('a', 300), 4);
  Step();
  EXPECT_EQ(Rows(), 64u);
  Add(2, "m", 12);
  Step();  // the short one first
  Step();  // which decodes now
  EXPECT_EQ(Rows(), 1u);
  ASSERT_TRUE(lane_->Step());
  EXPECT_GE(prompts_->steps[0].front().position, 64u);
  RunAll();
  EXPECT_EQ(Text(1), "bcde");
  EXPECT_EQ(Text(2), "nopqrstuvwxy");
  EXPECT_EQ(scheduler_->stats().prefilled, 301u);
}

TEST_F(LaneTest, MorePromptsThanDecodeAreComputedHere) {
  step_takes_ = std::chrono::milliseconds(10);
  Make(8, 64, 1024);
  Add(1, Long('a', 80), 60);
  Step();
  Step();
  for (uint64_t id = 2; id <= 4; ++id) Add(id, Long(static_cast<char>('k' + 2 * id), 100), 40);
  const auto here = [&] { return scheduler_->stats().prefilled; };
  while (Text(2).empty()) {
    Step();
    ASSERT_LE(Rows(), 127u);
    ASSERT_TRUE(prompts_->steps.empty());
  }
  EXPECT_GE(here(), 180u);
  Step();  // two decode, two do not
  EXPECT_EQ(Rows(), 2u);
  EXPECT_TRUE(lane_->Step());
  RunAll();
  EXPECT_EQ(Text(2).substr(0, 3), "pqr");
  EXPECT_EQ(Text(4).substr(0, 3), "tuv");
}

TEST_F(LaneTest, NotWhereTheTargetHasNoRoomForATile) {
  SchedulerOptions options;
  options.target_itl = std::chrono::milliseconds(15);
  step_takes_ = std::chrono::milliseconds(10);
  Make(8, 64, 1024, options);
  Add(1, "a", 60);
  Step();
  Step();
  for (uint64_t id = 2; id <= 4; ++id) Add(id, Long(static_cast<char>('k' + 2 * id), 100), 40);
  Step();
  EXPECT_EQ(Rows(), 1u);
  EXPECT_TRUE(lane_->Step());
  RunAll();
}

TEST_F(LaneTest, PastTheSeatsPromptsWaitAndThenTakeTurnsHereUntilOneIsFree) {
  seats_ = 1;
  SchedulerOptions options;
  options.target_itl = std::chrono::milliseconds(20);
  step_takes_ = std::chrono::milliseconds(10);
  Make(4, 16, 1024, options);
  Add(1, "a", 24);
  Step();
  Add(2, Long('m', 200), 2);
  Add(3, Long('p', 200), 2);
  for (int i = 0; i < 12; ++i) {  // 240 ms
    Step();
    EXPECT_EQ(Rows(), 1u);
  }
  EXPECT_EQ(scheduler_->stats().running, 3u);
  Step();
  Step();
  EXPECT_EQ(decoder_->steps.back().front().token, 'p');  // a part of the third one's prompt, here
  EXPECT_LE(Rows(), 16u);
  while (lane_->Step()) {
  }
  Step();
  EXPECT_EQ(Text(2).front(), 'n');
  ASSERT_TRUE(lane_->Step());
  EXPECT_EQ(prompts_->steps.back().front().token, 'p');
  EXPECT_GE(prompts_->steps.back().front().position, 8u);  // what was computed here went along
  RunAll();
  EXPECT_EQ(Text(1), "bcdefghijklmnopqrstuvwxy");
  EXPECT_EQ(Text(3), "qr");
}

TEST_F(LaneTest, AnUrgentPromptDoesNotWaitForASeat) {
  seats_ = 1;
  Make(4, 512, 1024);
  Add(1, "a", 20);
  Step();
  Add(2, Long('m'), 2);
  Step();
  TestRequest urgent(3);
  urgent.Text(Long('p')).request.max_tokens = 2;
  urgent.request.priority = -1;
  Add(urgent);
  Step();
  Step();
  EXPECT_EQ(Text(3).front(), 'q');
}

TEST_F(LaneTest, TakesACachedPrefixAlong) {
  Make(4, 512, 256);
  Add(1, Long('a', 80), 2);
  RunAll();
  Add(2, "m", 30);
  Step();
  Add(3, Long('a', 80) + Long('c', 60), 2);
  Step();
  while (lane_->Step()) {
  }
  ASSERT_FALSE(prompts_->steps.empty());
  EXPECT_EQ(prompts_->steps[0].front().position, 80u);
  RunAll();
  EXPECT_EQ(Text(3), "de");
  EXPECT_EQ(gatherer_.Now(3).choices.at(0).cached_tokens, 80u);
  EXPECT_EQ(scheduler_->stats().prefilled, 80u + 1 + 60);
}

TEST_F(LaneTest, OthersWaitForAPrefixThatIsComputedThere) {
  Make(4, 512, 256);
  Add(1, "m", 30);
  Step();
  Add(2, Long('a') + "x", 2);
  Add(3, Long('a') + "y", 2);
  Step();
  EXPECT_EQ(scheduler_->stats().requests, 2u);
  while (lane_->Step()) {
  }
  RunAll();
  EXPECT_EQ(Text(2), "yz");
  EXPECT_EQ(Text(3), "z");
  EXPECT_EQ(gatherer_.Now(3).choices.at(0).cached_tokens, 100u);
}

TEST_F(LaneTest, ChoicesShareThePrompt) {
  Make(4, 512, 256);
  Add(1, "m", 30);
  Step();
  TestRequest request(2);
  request.Text(Long('a', 150)).request.max_tokens = 3;
  request.request.n = 3;
  Add(request);
  RunAll();
  for (uint32_t i = 0; i < 3; ++i) EXPECT_EQ(Text(2, i), "bcd");
  EXPECT_EQ(prompts_->steps.size(), 2u);  // 64 tokens, and the other 86
}

TEST_F(LaneTest, SequencesThereCountAndAnUrgentRequestDisplacesThem) {
  Make(2, 512, 256);
  Add(1, "m", 12);
  Step();
  TestRequest patient(2);
  patient.Text(Long('a')).request.max_tokens = 3;
  patient.request.priority = 5;
  Add(patient);
  Step();
  EXPECT_EQ(scheduler_->stats().running, 2u);
  Add(3, "p", 3);
  Step();
  EXPECT_EQ(scheduler_->stats().preemptions, 1u);
  EXPECT_FALSE(lane_->Step());
  RunAll();
  EXPECT_EQ(Text(2), "bcd");
  EXPECT_EQ(Text(3), "qrs");
}

TEST_F(LaneTest, CancelledThere) {
  Make(2, 512, 256);
  Add(1, "m", 12);
  Step();
  Add(2, Long('a'), 3);
  Step();
  lane_->Step();
  Cancel(2);
  EXPECT_FALSE(lane_->Step());
  RunAll();
  EXPECT_EQ(gatherer_.Now(2).code, CYLLM_CANCELLED);
  EXPECT_EQ(scheduler_->stats().running, 0u);
}

TEST_F(LaneTest, WithoutCreditItsFirstTokenWaits) {
  Make(2, 512, 256);
  Add(1, "m", 12);
  Step();
  TestRequest request(2);
  request.Text(Long('a')).request.max_tokens = 3;
  request.request.credit = 1;
  request.request.n = 2;
  Add(request);
  RunAll();
  EXPECT_TRUE(gatherer_.Now(1).ended);
  EXPECT_EQ(Text(2, 0).size() + Text(2, 1).size(), 1u);
  scheduler_->Credit(2, 100);
  RunAll();
  EXPECT_EQ(Text(2, 0), "bcd");
  EXPECT_EQ(Text(2, 1), "bcd");
}

TEST_F(LaneTest, WhatCannotBeTakenOverIsComputedHere) {
  Make(2, 512, 256);
  decoder_->restores = false;
  Add(1, "m", 12);
  Step();
  Add(2, Long('a'), 3);
  RunAll();
  EXPECT_EQ(Text(1), "nopqrstuvwxy");
  EXPECT_EQ(Text(2), "bcd");
}

TEST_F(LaneTest, PromptsFillTheGapsBetweenThoseThatDecode) {
  seats_ = 0;
  SchedulerOptions options;
  options.target_itl = std::chrono::milliseconds(1);
  step_takes_ = std::chrono::milliseconds(10);
  Make(3, 16, 256, options);
  Add(1, "a", 3);
  Add(2, "f", 3);
  Add(3, "m", 12);
  Step();
  Add(4, Long('p', 60), 2);
  bool filled = false;
  for (int i = 0; i < 40 && Step(); ++i) {
    const auto& rows = decoder_->steps.back();
    for (size_t k = 1; k < rows.size(); ++k) EXPECT_LE(rows[k].sequence - rows[k - 1].sequence, 1u);
    filled = filled || (rows.size() == 2 && rows[0].logits != rows[1].logits);
  }
  RunAll();
  EXPECT_EQ(Text(4), "qr");
}

}  // namespace
}  // namespace cyllm::llama
