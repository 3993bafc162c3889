#include "echo/job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cyllm::echo {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;

const TimePoint kStart{std::chrono::hours(1)};

class JobTest : public testing::Test {
 protected:
  JobTest() {
    sampling_.size = sizeof sampling_;
    request_.size = sizeof request_;
    request_.id = 7;
    request_.n = 1;
    request_.max_tokens = CYLLM_MAX_TOKENS_UNSET;
    request_.credit = 1000;
    request_.sampling = &sampling_;
    prompt_.words = {"one", "two", "three"};
    prompt_.tokens = 3;
  }
  Job Make() { return Job(request_, prompt_, options_, kStart); }

  // The texts of one step; its other events as words.
  std::vector<std::string> Advance(Job& job, TimePoint now = kStart) {
    Step step;
    job.Advance(now, step);
    return Told(step);
  }
  static std::vector<std::string> Told(const Step& step) {
    std::vector<std::string> out;
    for (const cyllm_event& e : step.events()) {
      EXPECT_EQ(e.id, 7u);
      switch (e.type) {
        case CYLLM_EVENT_ACCEPTED:
          out.push_back("accepted " + std::to_string(e.prompt_tokens));
          break;
        case CYLLM_EVENT_TEXT:
          out.emplace_back(sdk::View(e.text));
          break;
        case CYLLM_EVENT_FINISHED:
          out.push_back(std::string(e.finish_reason == CYLLM_FINISH_STOP ? "stop " : "length ") +
                        std::to_string(e.completion_tokens));
          break;
        case CYLLM_EVENT_END:
          out.push_back("end " + std::to_string(e.error ? e.error->code : 0));
          break;
        default:
          ADD_FAILURE() << "event " << e.type;
      }
    }
    return out;
  }

  cyllm_sampling sampling_{};
  cyllm_request request_{};
  Prompt prompt_;
  Options options_;
};

TEST_F(JobTest, SaysTheWordsOnceWithoutMaxTokens) {
  Job job = Make();
  EXPECT_THAT(Advance(job), ElementsAre("accepted 3", "one", " two", " three", "stop 3", "end 0"));
  EXPECT_TRUE(job.ended());
}

TEST_F(JobTest, RepeatsThemUntilMaxTokens) {
  request_.max_tokens = 5;
  Job job = Make();
  EXPECT_THAT(Advance(job),
              ElementsAre("accepted 3", "one", " two", " three", " one", " two", "length 5", "end 0"));
}

TEST_F(JobTest, ReplyTokensEndEarlier) {
  options_.reply_tokens = 2;
  request_.max_tokens = 5;
  Job early = Make();
  EXPECT_THAT(Advance(early), ElementsAre("accepted 3", "one", " two", "stop 2", "end 0"));
  request_.max_tokens = 1;
  Job cut = Make();
  EXPECT_THAT(Advance(cut), ElementsAre("accepted 3", "one", "length 1", "end 0"));
}

TEST_F(JobTest, NothingToSay) {
  prompt_ = {};
  Job job = Make();
  EXPECT_THAT(Advance(job), ElementsAre("accepted 0", "stop 0", "end 0"));
}

TEST_F(JobTest, TimesAreKept) {
  options_.ttft_ms = 100;
  options_.itl_ms = 10;
  Job job = Make();
  EXPECT_LE(job.due(), kStart);  // to be accepted
  EXPECT_THAT(Advance(job), ElementsAre("accepted 3"));
  EXPECT_EQ(job.due(), kStart + milliseconds(100));
  EXPECT_THAT(Advance(job, kStart + milliseconds(99)), ElementsAre());
  EXPECT_THAT(Advance(job, kStart + milliseconds(100)), ElementsAre("one"));
  EXPECT_EQ(job.due(), kStart + milliseconds(110));
  // Late: the next one comes itl after, not at once.
  EXPECT_THAT(Advance(job, kStart + milliseconds(150)), ElementsAre(" two"));
  EXPECT_EQ(job.due(), kStart + milliseconds(160));
}

TEST_F(JobTest, CreditIsAllThatIsProduced) {
  request_.credit = 2;
  Job job = Make();
  EXPECT_THAT(Advance(job), ElementsAre("accepted 3", "one", " two"));
  EXPECT_EQ(job.due(), TimePoint::max());
  EXPECT_THAT(Advance(job), ElementsAre());
  job.Credit(1);
  EXPECT_LE(job.due(), kStart);
  EXPECT_THAT(Advance(job), ElementsAre(" three", "stop 3", "end 0"));
}

TEST_F(JobTest, FinishingNeedsNoCredit) {
  request_.credit = 0;
  request_.max_tokens = 0;
  Job job = Make();
  EXPECT_THAT(Advance(job), ElementsAre("accepted 3", "length 0", "end 0"));
}

TEST_F(JobTest, OneStepIsBounded) {
  request_.max_tokens = 10'000;
  request_.credit = 100'000;
  Job job = Make();
  EXPECT_LE(Advance(job).size(), 100u);
  EXPECT_LE(job.due(), kStart);  // goes on at once
  EXPECT_FALSE(job.ended());
}

TEST_F(JobTest, StopStringIsNeitherShownNorSplit) {
  const cyllm_str stop = sdk::Str("wo thr");
  sampling_.stop = &stop;
  sampling_.n_stop = 1;
  Job job = Make();
  Step step;
  job.Advance(kStart, step);
  std::string text;
  for (const cyllm_event& e : step.events()) {
    if (e.type == CYLLM_EVENT_TEXT) text += sdk::View(e.text);
    if (e.type == CYLLM_EVENT_FINISHED) {
      EXPECT_EQ(e.finish_reason, static_cast<uint32_t>(CYLLM_FINISH_STOP));
      EXPECT_EQ(sdk::View(e.stop_match), "wo thr");
    }
  }
  EXPECT_EQ(text, "one t");
  EXPECT_TRUE(job.ended());
}

TEST_F(JobTest, HeldBackTextIsShownAtTheEnd) {
  const cyllm_str stop = sdk::Str("three and more");
  sampling_.stop = &stop;
  sampling_.n_stop = 1;
  Job job = Make();
  EXPECT_THAT(Advance(job), ElementsAre("accepted 3", "one", " two", " three", "stop 3", "end 0"));
}

TEST_F(JobTest, EchoedPromptComesFirst) {
  request_.kind = CYLLM_KIND_TEXT;
  request_.echo = 1;
  request_.max_tokens = 1;
  prompt_.text = "one two three";
  Job job = Make();
  EXPECT_THAT(Advance(job), ElementsAre("accepted 3", "one two three", " one", "length 1", "end 0"));
}

TEST_F(JobTest, ChoicesEndEachOnItsOwn) {
  request_.n = 2;
  request_.max_tokens = 1;
  Job job = Make();
  EXPECT_THAT(Advance(job), ElementsAre("accepted 3", "one", "length 1", "one", "length 1", "end 0"));
}

TEST_F(JobTest, StampIsTheMonotonicClock) {
  options_.stamp = true;
  request_.max_tokens = 2;
  const auto before = static_cast<uint64_t>(Clock::now().time_since_epoch().count());
  Job job = Make();
  const auto told = Advance(job);
  ASSERT_EQ(told.size(), 5u);
  for (const std::string& token : {told[1], told[2]}) {
    EXPECT_THAT(token, testing::MatchesRegex("@T[0-9a-f]{16}"));
    EXPECT_GE(std::stoull(token.substr(2), nullptr, 16), before);
  }
}

// Text and tokens of all deltas, and how each choice finished.
struct Whole {
  std::vector<std::string> text;
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::string> finish;
  bool operator==(const Whole&) const = default;
};

void Gather(const cyllm_event& e, Whole* out) {
  out->text.resize(std::max<size_t>(out->text.size(), e.choice + 1));
  out->tokens.resize(out->text.size());
  out->finish.resize(out->text.size());
  if (e.type == CYLLM_EVENT_TEXT) {
    out->text[e.choice] += sdk::View(e.text);
    out->tokens[e.choice].insert(out->tokens[e.choice].end(), e.token_ids, e.token_ids + e.n_token_ids);
    EXPECT_EQ(e.end.text_bytes, out->text[e.choice].size());
    EXPECT_EQ(e.end.tokens, out->tokens[e.choice].size());
  } else if (e.type == CYLLM_EVENT_FINISHED) {
    out->finish[e.choice] = std::to_string(e.finish_reason) + " " + std::to_string(e.completion_tokens) +
                            std::string(sdk::View(e.stop_match));
  }
}

TEST_F(JobTest, GoesOnWhereAnotherOneWasCut) {
  const cyllm_str stop = sdk::Str("two th");
  for (const bool stops : {false, true}) {
    for (const bool echo : {false, true}) {
      request_.kind = CYLLM_KIND_TEXT;
      prompt_.text = "one two three";
      request_.echo = echo;
      request_.n = 2;
      request_.max_tokens = 7;
      sampling_.stop = &stop;
      sampling_.n_stop = stops;
      Job undisturbed = Make();
      Step all;
      undisturbed.Advance(kStart, all);
      Whole expected;
      for (const cyllm_event& e : all.events()) Gather(e, &expected);
      for (size_t cut = 0; cut < all.events().size(); ++cut) {
        Whole got;
        for (size_t i = 0; i < cut; ++i) Gather(all.events()[i], &got);
        got.text.resize(2);
        got.tokens.resize(2);
        cyllm_resume_choice states[2];
        for (size_t i = 0; i < 2; ++i)
          states[i] = {got.tokens[i].data(), got.tokens[i].size(), got.text[i].size(), 0, 0};
        Job second = Make();
        std::string why;
        ASSERT_TRUE(second.Resume(states, &why)) << why;
        Step rest;
        second.Advance(kStart, rest);
        ASSERT_TRUE(second.ended());
        for (const cyllm_event& e : rest.events()) Gather(e, &got);
        EXPECT_EQ(got, expected) << "cut " << cut << " stop " << stops << " echo " << echo;
      }
    }
  }
}

TEST_F(JobTest, StatesOfOtherRequestsAreRefused) {
  request_.max_tokens = 2;
  const int32_t tokens[] = {1, 2, 3}, others[] = {2};
  for (const cyllm_resume_choice& state :
       {cyllm_resume_choice{tokens, 3, 0, 0, 0}, cyllm_resume_choice{others, 1, 0, 0, 0},
        cyllm_resume_choice{tokens, 1, 4, 0, 0}, cyllm_resume_choice{tokens, 1, 0, 1, 0}}) {
    Job job = Make();
    std::string why;
    EXPECT_FALSE(job.Resume(&state, &why));
    EXPECT_FALSE(why.empty());
  }
}

TEST_F(JobTest, WhatWasNotDeliveredNeedsCredit) {
  request_.max_tokens = 2;
  request_.credit = 0;
  const int32_t tokens[] = {1, 2};
  const cyllm_resume_choice state{tokens, 2, 3, 0, 0};
  Job job = Make();
  std::string why;
  ASSERT_TRUE(job.Resume(&state, &why));
  EXPECT_THAT(Advance(job), ElementsAre("accepted 3"));
  EXPECT_EQ(job.due(), TimePoint::max());
  job.Credit(1);
  EXPECT_THAT(Advance(job), ElementsAre(" two", "length 2", "end 0"));
}

TEST_F(JobTest, ACallIsToldInPieces) {
  prompt_.script = {"look", {"{\"a\":", "1}"}};
  const auto told = [](Job& job) {
    std::vector<std::string> out;
    Step step;
    job.Advance(kStart, step);
    for (const cyllm_event& e : step.events()) {
      if (e.type == CYLLM_EVENT_TOOL_CALL)
        out.push_back(std::string(sdk::View(e.tool_name)) + "(" + std::string(sdk::View(e.text)));
      if (e.type == CYLLM_EVENT_FINISHED) out.push_back(std::to_string(e.finish_reason));
    }
    return out;
  };
  Job job = Make();
  EXPECT_THAT(told(job), ElementsAre("look({\"a\":", "(1}", std::to_string(CYLLM_FINISH_TOOL_CALLS)));
  const int32_t tokens[] = {1};
  const cyllm_resume_choice state{tokens, 1, 0, 0, 5};
  Job second = Make();
  std::string why;
  ASSERT_TRUE(second.Resume(&state, &why)) << why;
  EXPECT_THAT(told(second), ElementsAre("(1}", std::to_string(CYLLM_FINISH_TOOL_CALLS)));
  request_.max_tokens = 1;
  Job cut = Make();
  EXPECT_THAT(told(cut), ElementsAre("look({\"a\":", std::to_string(CYLLM_FINISH_LENGTH)));
}

TEST_F(JobTest, ValuesCostCredit) {
  request_.kind = CYLLM_KIND_EMBED;
  request_.credit = 1;
  prompt_.values = {{1, 0}, {0, 1}};
  Job job = Make();
  Step step;
  job.Advance(kStart, step);
  ASSERT_EQ(step.events().size(), 2u);
  EXPECT_EQ(step.events()[1].n_values, 2u);
  EXPECT_EQ(job.due(), TimePoint::max());
  job.Credit(1);
  Step rest;
  job.Advance(kStart, rest);
  EXPECT_TRUE(job.ended());
  EXPECT_EQ(rest.events().size(), 3u);
}

TEST_F(JobTest, ScriptedFaults) {
  options_.fail_after = 2;
  Job fails = Make();
  EXPECT_THAT(Advance(fails), ElementsAre("accepted 3", "one", " two", "end 14"));
  options_ = {};
  options_.hang_after = 1;
  Job hangs = Make();
  EXPECT_THAT(Advance(hangs), ElementsAre("accepted 3", "one"));
  EXPECT_EQ(hangs.due(), TimePoint::max());
  Step step;
  hangs.End(CYLLM_CANCELLED, "cancelled", step);
  EXPECT_THAT(Told(step), ElementsAre("end 1"));
  options_ = {};
  options_.crash_after = 1;
  Job crashes = Make();
  EXPECT_DEATH(Advance(crashes), "");
}

TEST_F(JobTest, LogprobsAndTokenIdsAreDeterministic) {
  sampling_.logprobs = 1;
  sampling_.top_logprobs = 1;
  request_.max_tokens = 4;
  Job job = Make();
  Step step;
  job.Advance(kStart, step);
  std::vector<int32_t> ids;
  for (const cyllm_event& e : step.events()) {
    if (e.type != CYLLM_EVENT_TEXT) continue;
    ASSERT_EQ(e.n_token_ids, 1u);
    ASSERT_EQ(e.n_logprobs, 1u);
    EXPECT_EQ(e.logprobs[0].n_top, 1u);
    ids.push_back(e.token_ids[0]);
  }
  EXPECT_THAT(ids, ElementsAre(1, 2, 3, 1));
}

}  // namespace
}  // namespace cyllm::echo
