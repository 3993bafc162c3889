#include "llama_cpp/scheduler.h"

#include <gtest/gtest.h>

#include "llama_cpp/scheduler_fixture.h"

namespace cyllm::llama {
namespace {

using testing::SchedulerTest;
using testing::TestRequest;

TEST_F(SchedulerTest, OneRequestToItsEnd) {
  Make(4, 512);
  Add(1, "xw", 64);
  RunAll();
  const auto r = gatherer_.Now(1);
  EXPECT_TRUE(r.ended);
  EXPECT_EQ(r.code, 0);
  EXPECT_EQ(r.prompt_tokens, 2u);
  EXPECT_EQ(r.choices.at(0).text, "xyz");
  EXPECT_EQ(r.choices.at(0).reason, static_cast<uint32_t>(CYLLM_FINISH_STOP));
  EXPECT_EQ(r.choices.at(0).completion_tokens, 4u);  // with the one that ends
  EXPECT_EQ(r.choices.at(0).text_events, 3u);
  EXPECT_EQ(scheduler_->stats().running, 0u);
}

TEST_F(SchedulerTest, RequestsJoinAndLeaveBetweenSteps) {
  Make(4, 512);
  Add(1, "a", 4);
  Step();
  Add(2, "m", 3);
  Step();
  Step();
  EXPECT_EQ(Text(1), "bc");
  EXPECT_EQ(Text(2), "n");
  Step();
  EXPECT_EQ(decoder_->steps.back().size(), 2u);
  Add(3, "p", 3);
  Step();
  Step();
  EXPECT_EQ(decoder_->steps.back().size(), 3u);
  EXPECT_TRUE(gatherer_.Now(1).ended);
  EXPECT_TRUE(gatherer_.Now(2).ended);
  RunAll();
  EXPECT_EQ(Text(1), "bcde");
  EXPECT_EQ(Text(2), "nop");
  EXPECT_EQ(Text(3), "qrs");
  EXPECT_EQ(decoder_->steps.size(), 7u);
}

TEST_F(SchedulerTest, LongPromptsComeInChunksBetweenDecoding) {
  Make(4, 8);
  Add(1, "a", 10);
  Step();
  Add(2, std::string(19, 'k'), 2);
  std::vector<std::pair<size_t, size_t>> rows;
  for (size_t i = 1; i <= 6; ++i) {
    Step();
    rows.emplace_back(decoder_->RowsOf(i, 0), decoder_->RowsOf(i, 1));
  }
  using P = std::pair<size_t, size_t>;
  EXPECT_EQ(rows, (std::vector<P>{{1, 0}, {0, 8}, {1, 0}, {0, 8}, {1, 0}, {0, 3}}));
  EXPECT_EQ(Text(1), "bcde");
  EXPECT_EQ(Text(2), "l");
  RunAll();
  EXPECT_EQ(Text(2), "lm");
}

TEST_F(SchedulerTest, ChunkIsSharedByPromptsInOrderOfPriority) {
  Make(4, 8);
  Add(1, std::string(10, 'a'), 1);
  TestRequest urgent(2);
  urgent.Text("mmmmm").request.max_tokens = 1;
  urgent.request.priority = -1;
  Add(urgent);
  Step();
  EXPECT_TRUE(gatherer_.Now(2).ended);
  EXPECT_EQ(decoder_->steps.at(0).size(), 8u);
  RunAll();
  EXPECT_EQ(Text(1), "b");
}

TEST_F(SchedulerTest, MoreThanThereAreSequencesWaitByPriorityThenAge) {
  Make(1, 512);
  TestRequest first(1);
  first.Text("a").request.max_tokens = 2;
  first.request.priority = -5;
  Add(first);
  Step();
  Add(2, "f", 1);
  Add(3, "k", 1);
  TestRequest urgent(4);
  urgent.Text("p").request.max_tokens = 1;
  urgent.request.priority = -5;
  Add(urgent);
  EXPECT_EQ(scheduler_->stats().requests, 1u);
  Step();
  EXPECT_TRUE(gatherer_.Now(1).ended);
  Step();
  EXPECT_TRUE(gatherer_.Now(4).ended);
  Step();
  EXPECT_TRUE(gatherer_.Now(2).ended);
  EXPECT_FALSE(gatherer_.Now(3).ended);
  RunAll();
  EXPECT_TRUE(gatherer_.Now(3).ended);
}

TEST_F(SchedulerTest, WithoutCreditNothingRuns) {
  Make(4, 512);
  TestRequest request(1);
  request.Text("a").request.max_tokens = 5;
  request.request.credit = 0;
  Add(request);
  EXPECT_FALSE(Step());
  EXPECT_TRUE(decoder_->steps.empty());
  scheduler_->Credit(1, 2);
  RunAll();
  EXPECT_EQ(Text(1), "bc");
  Add(2, "m", 3);
  RunAll();  // the stalled one takes nobody's time
  EXPECT_EQ(Text(2), "nop");
  EXPECT_FALSE(gatherer_.Now(1).ended);
  scheduler_->Credit(1, 100);
  RunAll();
  EXPECT_EQ(Text(1), "bcdef");
}

TEST_F(SchedulerTest, TokensWithoutTextCostNoCredit) {
  Make(4, 512);
  decoder_->next = [](const auto& held) {
    const std::string smile = "\xF0\x9F\x98\x80";
    return static_cast<uint8_t>(smile[(held.size() - 1) % 4]);
  };
  TestRequest request(1);
  request.Text("a").request.max_tokens = 8;
  request.request.credit = 1;
  Add(request);
  RunAll();
  EXPECT_EQ(Text(1), "\xF0\x9F\x98\x80");
  EXPECT_EQ(gatherer_.Now(1).choices[0].text_events, 1u);
}

TEST_F(SchedulerTest, CancelledRequestsLeaveTheirSequences) {
  Make(1, 8);
  Add(1, std::string(20, 'a'), 9);
  Add(2, "m", 1);
  Step();
  Cancel(1);
  EXPECT_EQ(gatherer_.Now(1).code, CYLLM_CANCELLED);
  EXPECT_EQ(scheduler_->stats().running, 0u);
  Cancel(1);
  RunAll();
  EXPECT_EQ(Text(2), "n");
  EXPECT_FALSE(scheduler_->Plan());
}

TEST_F(SchedulerTest, AWaitingRequestCanBeCancelled) {
  Make(1, 8);
  Add(1, "a", 2);
  Add(2, "m", 2);
  Step();
  Cancel(2);
  RunAll();
  EXPECT_TRUE(gatherer_.Now(1).ended);
  EXPECT_EQ(gatherer_.Now(2).code, CYLLM_CANCELLED);
}

TEST_F(SchedulerTest, AFailedStepEndsItsRequestsOnly) {
  Make(1, 8);
  Add(1, "a", 5);
  Add(2, "m", 2);
  decoder_->fails = true;
  Step();
  EXPECT_EQ(gatherer_.Now(1).code, CYLLM_INTERNAL);
  decoder_->fails = false;
  RunAll();
  EXPECT_EQ(gatherer_.Now(2).code, 0);
  EXPECT_EQ(Text(2), "no");
}

TEST_F(SchedulerTest, ChoicesShareTheirPrompt) {
  Make(4, 512, 128);
  TestRequest request(1);
  request.Text(std::string(40, 'k')).request.max_tokens = 3;
  request.request.n = 3;
  Add(request);
  RunAll();
  for (uint32_t choice = 0; choice < 3; ++choice) EXPECT_EQ(Text(1, choice), "lmn");
  EXPECT_EQ(decoder_->copied, 2u);
  EXPECT_EQ(decoder_->steps.at(0).size(), 40u);
  EXPECT_EQ(decoder_->steps.at(2).size(), 2u);  // the last token of each copy
  EXPECT_EQ(gatherer_.Now(1).prompt_tokens, 40u);
}

TEST_F(SchedulerTest, ChoicesOfAModelThatCannotCopyPrefillThemselves) {
  copies_ = false;
  Make(4, 512, 128);
  TestRequest request(1);
  request.Text(std::string(40, 'k')).request.max_tokens = 2;
  request.request.n = 2;
  Add(request);
  RunAll();
  EXPECT_EQ(decoder_->copied, 0u);
  EXPECT_EQ(Text(1, 0), "lm");
  EXPECT_EQ(Text(1, 1), "lm");
}

TEST_F(SchedulerTest, MoreChoicesThanSequences) {
  Make(2, 512);
  TestRequest request(1);
  request.Text("aaaa").request.max_tokens = 2;
  request.request.n = 5;
  Add(request);
  RunAll();
  for (uint32_t choice = 0; choice < 5; ++choice) EXPECT_EQ(Text(1, choice), "bc");
  EXPECT_TRUE(gatherer_.Now(1).ended);
}

TEST_F(SchedulerTest, ChoicesTakeTurnsWhereCreditIsShort) {
  Make(2, 512);
  TestRequest request(1);
  request.Text("a").request.max_tokens = 20;
  request.request.n = 2;
  request.request.credit = 1;
  Add(request);
  for (int i = 0; i < 20; ++i) {
    Step();
    scheduler_->Credit(1, 1);
  }
  EXPECT_GE(Text(1, 0).size(), 5u);
  EXPECT_GE(Text(1, 1).size(), 5u);
}

TEST_F(SchedulerTest, NoTokensWanted) {
  Make(1, 512);
  Add(1, "abc", 0);
  RunAll();
  const auto r = gatherer_.Now(1);
  EXPECT_TRUE(r.ended);
  EXPECT_EQ(r.code, 0);
  EXPECT_EQ(r.choices.at(0).text, "");
  EXPECT_EQ(r.choices.at(0).reason, static_cast<uint32_t>(CYLLM_FINISH_LENGTH));
  EXPECT_TRUE(decoder_->steps.empty());

  TestRequest echo(2);
  echo.Text("abc").request.max_tokens = 0;
  echo.request.echo = 1;
  echo.request.credit = 0;
  Add(echo);
  EXPECT_FALSE(Step());
  scheduler_->Credit(2, 1);
  RunAll();
  EXPECT_EQ(Text(2), "abc");
  EXPECT_TRUE(gatherer_.Now(2).ended);
}

TEST_F(SchedulerTest, EchoComesWithTheFirstToken) {
  Make(1, 512);
  TestRequest echo(1);
  echo.Text("abc").request.max_tokens = 2;
  echo.request.echo = 1;
  Add(echo);
  RunAll();
  EXPECT_EQ(Text(1), "abcde");
  EXPECT_EQ(gatherer_.Now(1).choices[0].tokens, (std::vector<int32_t>{'d', 'e'}));

  TestRequest tokens(2);
  tokens.Tokens({'m', 'n'}).request.max_tokens = 1;
  tokens.request.echo = 1;
  Add(tokens);
  RunAll();
  EXPECT_EQ(Text(2), "mno");
}

TEST_F(SchedulerTest, StopsAndLengths) {
  Make(4, 512);
  TestRequest stop(1);
  stop.Text("a").Stop({"ef"}).request.max_tokens = 20;
  Add(stop);
  TestRequest token(2);
  const int32_t stop_token = 'd';
  token.Text("a").sampling.stop_token_ids = &stop_token;
  token.sampling.n_stop_token_ids = 1;
  Add(token);
  TestRequest forever(3);
  forever.Text("y").request.max_tokens = 4;
  forever.sampling.ignore_eos = 1;
  Add(forever);
  TestRequest at_least(4);
  at_least.Text("a").Stop({"c"}).request.max_tokens = 6;
  at_least.sampling.min_tokens = 3;
  Add(at_least);
  RunAll();
  EXPECT_EQ(Text(1), "bcd");
  EXPECT_EQ(gatherer_.Now(1).choices[0].stop_match, "ef");
  EXPECT_EQ(gatherer_.Now(1).choices[0].reason, static_cast<uint32_t>(CYLLM_FINISH_STOP));
  EXPECT_EQ(Text(2), "bc");
  EXPECT_EQ(gatherer_.Now(3).choices[0].completion_tokens, 4u);
  EXPECT_EQ(gatherer_.Now(3).choices[0].reason, static_cast<uint32_t>(CYLLM_FINISH_LENGTH));
  EXPECT_EQ(Text(4), "bcdefg");
}

TEST_F(SchedulerTest, MaxTokensIsCutToTheRoom) {
  Make(1, 512, 16);
  TestRequest request(1);
  request.Text("aaaaaaaaaa").request.max_tokens = CYLLM_MAX_TOKENS_UNSET;
  Add(request);
  RunAll();
  EXPECT_EQ(Text(1), "bcdefg");
  EXPECT_EQ(gatherer_.Now(1).choices[0].reason, static_cast<uint32_t>(CYLLM_FINISH_LENGTH));
}

TEST_F(SchedulerTest, ItKnowsWhenAStallWillCount) {
  Make(2, 8);
  TestRequest stalled(1), later(2);
  stalled.Text("a").request.credit = later.Text("a").request.credit = 1;
  Add(stalled);
  RunAll();
  now_ += std::chrono::milliseconds(100);
  Add(later);
  RunAll();
  EXPECT_FALSE(scheduler_->WakeAt()) << "nobody waits";
  TestRequest poor(3);
  poor.Text("m").request.credit = 0;
  Add(poor);
  RunAll();
  EXPECT_FALSE(scheduler_->WakeAt()) << "nobody could go on";
  Add(4, "m", 2);
  EXPECT_FALSE(scheduler_->Plan());
  const std::optional<TimePoint> at = scheduler_->WakeAt();
  ASSERT_TRUE(at);
  EXPECT_GT(*at, now_);
  EXPECT_LE(*at, now_ + std::chrono::milliseconds(400));
  now_ = *at - std::chrono::milliseconds(1);
  EXPECT_FALSE(scheduler_->Plan());
  now_ = *at;
  RunAll();
  EXPECT_EQ(Text(4), "no");
  EXPECT_EQ(scheduler_->stats().preemptions, 1u);
}

TEST_F(SchedulerTest, AStallThatHelpsNobodyIsNotWaitedFor) {
  Make(1, 8);
  TestRequest urgent(1);
  urgent.Text("a").request.credit = 1;
  urgent.request.priority = -1;
  Add(urgent);
  RunAll();
  Add(2, "m", 2);
  EXPECT_FALSE(scheduler_->Plan());
  now_ = scheduler_->WakeAt().value_or(now_);
  EXPECT_FALSE(scheduler_->Plan());
  EXPECT_FALSE(scheduler_->WakeAt());
}

// Says that a tool is called, whatever the text.
class CallsAtTheEnd final : public MessageParser {
 public:
  void Push(std::string_view, std::vector<MessagePart>*) override {}
  void Finish(std::vector<MessagePart>* out) override {
    out->push_back({MessagePart::Kind::kToolCall, {}, 0, true, "find"});
  }
};

TEST_F(SchedulerTest, WithoutTokensTooNothingIsToldWithoutCredit) {
  Make(1, 8);
  chat_.on_render = [](const ChatInput&, ChatPrompt* out) {
    out->parser = [] { return std::make_unique<CallsAtTheEnd>(); };
  };
  TestRequest request(1);
  request.messages = "p";
  request.request.max_tokens = request.request.credit = 0;
  Add(request);
  RunAll();
  EXPECT_TRUE(gatherer_.Now(1).choices[0].calls.empty());
  EXPECT_FALSE(gatherer_.Now(1).ended);
  scheduler_->Credit(1, 1);
  RunAll();
  EXPECT_TRUE(gatherer_.Now(1).ended);
  EXPECT_EQ(gatherer_.Now(1).choices[0].calls.size(), 1u);
}

class Throws final : public MessageParser {
 public:
  void Push(std::string_view text, std::vector<MessagePart>* out) override {
    if (text == "d") throw std::runtime_error("not that");
    out->push_back({MessagePart::Kind::kText, std::string(text), 0, false, {}});
  }
  void Finish(std::vector<MessagePart>*) override {}
};

TEST_F(SchedulerTest, WhatAnAnswerThrowsEndsThisRequest) {
  Make(3, 8);
  chat_.on_render = [](const ChatInput&, ChatPrompt* out) {
    out->parser = [] { return std::make_unique<Throws>(); };
  };
  TestRequest bad(1);
  bad.messages = "a";
  bad.request.n = 2;
  Add(bad);
  Add(2, "m", 5);
  RunAll();
  EXPECT_EQ(gatherer_.Now(1).code, CYLLM_INTERNAL);
  EXPECT_EQ(Text(1), "bc");
  EXPECT_EQ(gatherer_.Now(2).code, CYLLM_OK);
  EXPECT_EQ(Text(2), "nopqr");
  Add(3, "abc", 3);  // on what was cached of it
  RunAll();
  EXPECT_EQ(Text(3), "def");
}

}  // namespace
}  // namespace cyllm::llama
