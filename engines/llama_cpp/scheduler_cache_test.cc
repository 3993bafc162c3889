// The scheduler with its prefix cache, and who gives way to whom.
#include <gtest/gtest.h>

#include "llama_cpp/fake_model.h"
#include "llama_cpp/scheduler.h"
#include "llama_cpp/scheduler_fixture.h"

namespace cyllm::llama {
namespace {

using testing::SchedulerTest;
using testing::TestRequest;

class CacheTest : public SchedulerTest {
 protected:
  static std::string Long(char c) { return std::string(40, c); }
  uint32_t Cached(uint64_t id) { return gatherer_.Now(id).choices.at(0).cached_tokens; }
};

TEST_F(CacheTest, ALaterRequestReusesAFinishedOne) {
  Make(4, 512, 128);
  Add(1, Long('a') + "m", 3);
  RunAll();
  Add(2, Long('a') + "p", 3);
  RunAll();
  EXPECT_EQ(Text(1), "nop");
  EXPECT_EQ(Text(2), "qrs");
  EXPECT_EQ(Cached(1), 0u);
  EXPECT_EQ(Cached(2), 40u);
  EXPECT_EQ(scheduler_->stats().cached, 40u);
  EXPECT_EQ(scheduler_->stats().prefilled, 42u);
}

TEST_F(CacheTest, TheNextTurnOfAConversationReusesTheAnswer) {
  Make(4, 512, 128);
  Add(1, "a", 10);
  RunAll();
  ASSERT_EQ(Text(1), "bcdefghijk");
  Add(2, "abcdefghijk user", 3);
  RunAll();
  EXPECT_EQ(Cached(2), 10u);  // the last token of an answer is not computed
  EXPECT_EQ(Text(2), "stu");
}

TEST_F(CacheTest, ThePromptsLastTokenIsComputedInAnyCase) {
  Make(4, 512, 128);
  Add(1, Long('a'), 2);
  RunAll();
  Add(2, Long('a'), 2);
  RunAll();
  EXPECT_EQ(Cached(2), 39u);
  EXPECT_EQ(Text(2), Text(1));
}

TEST_F(CacheTest, RequestsOfOneMomentPrefillTheirPrefixOnce) {
  Make(8, 16, 128);
  for (uint64_t id = 1; id <= 8; ++id) Add(id, Long('a') + static_cast<char>('a' + id), 2);
  RunAll();
  for (uint64_t id = 1; id <= 8; ++id) {
    EXPECT_EQ(Text(id).front(), static_cast<char>('b' + id));
    EXPECT_EQ(Cached(id), id == 1 ? 0u : 40u);
  }
  EXPECT_EQ(scheduler_->stats().prefilled, 41u + 7);
}

TEST_F(CacheTest, WhoSharesNothingDoesNotWait) {
  Make(2, 16, 128);
  Add(1, Long('a') + "x", 2);
  Add(2, Long('a') + "y", 2);
  Add(3, "m", 2);
  Step();
  EXPECT_EQ(scheduler_->Planned(), (std::vector<uint64_t>{1}));
  EXPECT_EQ(scheduler_->stats().requests, 2u);  // the second one not
  RunAll();
  EXPECT_EQ(Text(3), "no");
  EXPECT_EQ(Cached(2), 40u);
}

TEST_F(CacheTest, AStalledOrCancelledLeaderIsNotWaitedFor) {
  Make(2, 16, 128);
  TestRequest stalled(1);
  stalled.Text(Long('a') + "x").request.max_tokens = 2;
  stalled.request.credit = 0;
  Add(stalled);
  Add(2, Long('a') + "y", 2);
  RunAll();
  EXPECT_EQ(Text(2), "z");
  Add(3, Long('b') + "x", 2);
  Add(4, Long('b') + "y", 2);
  Step();
  Cancel(3);
  RunAll();
  EXPECT_EQ(Text(4), "z");
}

TEST_F(CacheTest, OffAndOnGiveTheSameText) {
  for (const bool on : {false, true}) {
    Make(4, 16, 128, {.prefix_caching = on});
    const uint64_t first = on ? 100 : 0;
    for (uint64_t i = 0; i < 6; ++i) Add(first + i, Long('a') + static_cast<char>('b' + i), 30);
    RunAll();
    for (uint64_t i = 0; i < 6; ++i)
      EXPECT_EQ(Text(first + i), std::string("cdefghijklmnopqrstuvwxyz").substr(i));
    EXPECT_EQ(scheduler_->stats().cached > 0, on);
  }
}

TEST_F(CacheTest, UrgentRequestsDisplaceOthersWhichGoOnWhereTheyWere) {
  Make(2, 64, 128);
  TestRequest background(1);
  background.Text("a").request.max_tokens = 20;
  background.request.priority = 5;
  Add(background);
  Add(2, "a", 20);
  Step();
  Step();
  TestRequest urgent(3);
  urgent.Text("m").request.max_tokens = 3;
  urgent.request.priority = -1;
  Add(urgent);
  Step();
  EXPECT_EQ(Text(3), "n");
  EXPECT_EQ(Text(1), "bc");
  EXPECT_EQ(scheduler_->stats().preemptions, 1u);
  RunAll();
  EXPECT_EQ(Text(1), "bcdefghijklmnopqrstu");
  EXPECT_EQ(Text(2), "bcdefghijklmnopqrstu");
  EXPECT_EQ(gatherer_.Now(1).choices.at(0).text_events, 20u);
  EXPECT_EQ(scheduler_->stats().preemptions, 1u);
}

TEST_F(CacheTest, EqualsDoNotDisplaceEachOther) {
  Make(1, 64);
  Add(1, "a", 3);
  Step();
  Add(2, "m", 3);
  Step();
  EXPECT_EQ(scheduler_->stats().preemptions, 0u);
  EXPECT_EQ(Text(2), "");
}

TEST_F(CacheTest, WhoDoesNotReadGivesWay) {
  Make(1, 64);
  TestRequest slow(1);
  slow.Text("a").request.max_tokens = 6;
  slow.request.credit = 2;
  Add(slow);
  RunAll();
  Add(2, "m", 2);
  EXPECT_FALSE(Step());  // not at once
  now_ += std::chrono::seconds(1);
  RunAll();
  EXPECT_EQ(Text(2), "no");
  EXPECT_EQ(Text(1), "bc");
  scheduler_->Credit(1, 10);
  RunAll();
  EXPECT_EQ(Text(1), "bcdefg");
}

TEST_F(CacheTest, AnAbortedStepLeavesWhatWasComputedBefore) {
  Make(1, 16, 128);
  Add(1, Long('a'), 2);
  Step();
  abort_ = true;
  Step();
  abort_ = false;
  EXPECT_EQ(gatherer_.Now(1).code, CYLLM_CANCELLED);
  Add(2, Long('a'), 2);
  RunAll();
  EXPECT_EQ(Cached(2), 16u);
  EXPECT_EQ(Text(2), "bc");
}

TEST_F(CacheTest, ShortPromptsGoBeforeLongOnesUntilThoseHaveWaited) {
  Make(4, 8, 128);
  step_takes_ = std::chrono::milliseconds(80);  // 10 ms a token
  Add(1, Long('a'), 1);
  Step();
  Add(2, "bbbbbbbb", 1);
  Step();
  EXPECT_TRUE(gatherer_.Now(2).ended);
  now_ += std::chrono::seconds(1);
  Add(3, "cccccccc", 1);
  Step();
  EXPECT_FALSE(gatherer_.Now(3).ended);
  RunAll();
  EXPECT_EQ(Text(1), "b");
}

TEST_F(CacheTest, TokensComeInTimeWhoeverComes) {
  Make(4, 512, 2048, {.target_itl = std::chrono::milliseconds(100)});
  decoder_->next = [](const auto&) { return 'a'; };
  decoder_->on_decode = [this](const std::atomic<bool>&) {  // a token takes a millisecond
    now_ += std::chrono::milliseconds(scheduler_->planned_rows());
  };
  Add(1, "a", 400);
  for (int i = 0; i < 5; ++i) Step();
  Add(2, std::string(1500, 'b'), 4);
  TimePoint last = now_;
  uint32_t tokens = gatherer_.Now(1).choices.at(0).text_events;
  std::vector<std::chrono::milliseconds> gaps;
  while (!gatherer_.Now(2).ended) {
    ASSERT_TRUE(Step());
    if (gatherer_.Now(1).choices.at(0).text_events == tokens) continue;
    ++tokens;
    gaps.push_back(std::chrono::duration_cast<std::chrono::milliseconds>(now_ - std::exchange(last, now_)));
  }
  ASSERT_GT(gaps.size(), 10u);
  // The fixture lets 10 ms pass between steps. The first chunk is a guess.
  for (size_t i = 2; i < gaps.size(); ++i) EXPECT_LE(gaps[i].count(), 100 + 20) << i;
}

}  // namespace
}  // namespace cyllm::llama
