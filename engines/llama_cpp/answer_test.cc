// How answers are written and read: tools, formats, resuming; on a scripted model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "llama_cpp/engine.h"
#include "llama_cpp/fake_model.h"
#include "llama_cpp/own_tools.h"
#include "llama_cpp/test_client.h"

namespace cyllm::llama {
namespace {

using testing::ChoiceResult;
using testing::FakeChat;
using testing::FakeDecoder;
using testing::FakeVocabulary;
using testing::Gatherer;
using testing::Result;
using testing::TestRequest;

constexpr const char* kScript =
    "<think>hm</think>I look.<tool_call>\n{\"name\": \"find\", \"arguments\": {\"q\": 1}}\n</tool_call>";

class AnswerTest : public ::testing::Test {
 protected:
  AnswerTest() {
    decoder_.next = [this](const std::vector<Token>& held) -> Token {
      const size_t at = held.size() - 1;
      return at < script_.size() ? static_cast<uint8_t>(script_[at]) : testing::kEnd;
    };
    chat_.on_render = [this](const ChatInput&, ChatPrompt* out) {
      out->parser = parser_;
      out->constraint = constraint_;
    };
    engine_ =
        std::make_unique<Engine>(decoder_, vocabulary_, chat_, EngineLimits{512, 64}, gatherer_.callbacks());
  }
  void Constrain(std::string_view gbnf) {
    std::string why;
    constraint_ = std::make_shared<ConstraintSpec>();
    constraint_->grammar = Grammar::Compile(gbnf, &why);
    ASSERT_TRUE(constraint_->grammar) << why;
  }
  void ThinkAndCall() {
    script_ = kScript;
    parser_ = [] { return SplitReasoning("<think>", {"</think>"}, false, ToolCallText("")); };
  }
  // A prompt of one token, so that what is held tells the place in the script.
  Result Run(TestRequest& request) {
    Submit(request);
    return gatherer_.Wait(request.request.id);
  }
  void Submit(TestRequest& request) {
    request.messages = "p";
    request.request.max_tokens = std::min(request.request.max_tokens, 400u);
    cyllm_error error{};
    error.size = sizeof error;
    ASSERT_EQ(engine_->Submit(request.get(), &error), CYLLM_OK) << error.message;
  }
  uint64_t Id() { return ++last_id_; }

  std::string script_;
  MakeParser parser_;
  std::shared_ptr<ConstraintSpec> constraint_;
  FakeVocabulary vocabulary_;
  FakeChat chat_;
  FakeDecoder decoder_{4, 512};
  Gatherer gatherer_;
  uint64_t last_id_ = 0;
  std::unique_ptr<Engine> engine_;
};

TEST_F(AnswerTest, ACompletionIsHeldToAForm) {
  script_ = "xyz";
  Constrain(R"(root ::= "xq")");
  chat_.on_hold = [this](const std::string& extra) { return extra == "held" ? constraint_ : nullptr; };
  for (const bool tokens : {false, true}) {
    TestRequest free(Id()), held(Id()), bad(Id());
    for (TestRequest* request : {&free, &held, &bad}) {
      if (tokens) {
        request->Tokens({'p'});
      } else {
        request->Text("p");
      }
    }
    held.extra = "held";
    bad.extra = "bad";
    EXPECT_EQ(Run(free).choices.at(0).text, "xyz");
    EXPECT_EQ(Run(held).choices.at(0).text, "xq");
    const Result refused = Run(bad);
    EXPECT_EQ(refused.code, CYLLM_INVALID_ARGUMENT);
    EXPECT_EQ(refused.param, "guided_choice");
    EXPECT_FALSE(refused.accepted);
  }
}

TEST_F(AnswerTest, ThoughtsContentAndCallsAreEventsOfTheirOwn) {
  ThinkAndCall();
  TestRequest request(Id());
  request.request.max_tokens = 400;
  const ChoiceResult c = Run(request).choices.at(0);
  EXPECT_EQ(c.reasoning, "hm");
  EXPECT_EQ(c.text, "I look.");
  ASSERT_EQ(c.calls.size(), 1u);
  EXPECT_EQ(c.calls[0].name, "find");
  EXPECT_EQ(c.calls[0].arguments, "{\"q\": 1}");
  EXPECT_THAT(c.calls[0].id, ::testing::MatchesRegex("call_[0-9a-z]{24}"));
  EXPECT_EQ(c.reason, static_cast<uint32_t>(CYLLM_FINISH_TOOL_CALLS));
  EXPECT_GT(c.text_events, 15u) << "told while it is written";
}

TEST_F(AnswerTest, IdsAreOfTheRequestTheChoiceAndTheCall) {
  ThinkAndCall();
  const auto ids = [&](int64_t seed) {
    TestRequest request(Id());
    request.request.n = 2;
    request.request.has_seed = 1;
    request.request.seed = seed;
    request.request.max_tokens = 400;
    const Result r = Run(request);
    return std::vector{r.choices.at(0).calls.at(0).id, r.choices.at(1).calls.at(0).id};
  };
  const auto first = ids(5);
  EXPECT_NE(first[0], first[1]);
  EXPECT_EQ(first, ids(5));
  EXPECT_NE(first, ids(6));
}

TEST_F(AnswerTest, OneCreditAtATimeIsEnough) {
  ThinkAndCall();
  TestRequest request(Id());
  request.request.max_tokens = 400;
  request.request.credit = 1;
  Submit(request);
  for (uint32_t n = 1; n < 100; ++n) {
    gatherer_.WaitText(request.request.id, n);
    EXPECT_LE(gatherer_.Now(request.request.id).choices[0].text_events, n);
    if (gatherer_.Now(request.request.id).ended) break;
    engine_->Credit(request.request.id, 1);
  }
  const ChoiceResult c = gatherer_.Wait(request.request.id).choices.at(0);
  EXPECT_EQ(c.text, "I look.");
  EXPECT_EQ(c.calls.at(0).arguments, "{\"q\": 1}");
}

TEST_F(AnswerTest, APieceOfManyPartsNeedsThatMuchCredit) {
  // One token that is a whole answer: thoughts, text, a call.
  vocabulary_.pieces[200] = kScript;
  ThinkAndCall();
  script_ = "\xC8";
  for (const uint32_t credit : {1u, 2u, 100u}) {
    TestRequest request(Id());
    request.request.credit = credit;
    Submit(request);
    uint32_t n = std::min(credit, 3u);
    for (gatherer_.WaitText(request.request.id, n); n < 3; gatherer_.WaitText(request.request.id, n)) {
      EXPECT_EQ(gatherer_.Now(request.request.id).choices[0].text_events, n);
      EXPECT_FALSE(gatherer_.Now(request.request.id).ended);
      engine_->Credit(request.request.id, 1);
      ++n;
    }
    const ChoiceResult c = gatherer_.Wait(request.request.id).choices.at(0);
    EXPECT_EQ(c.reasoning + c.text + c.calls.at(0).arguments, "hmI look.{\"q\": 1}");
    EXPECT_EQ(c.tokens.size(), 1u);
  }
}

TEST_F(AnswerTest, TheGrammarDecides) {
  Constrain("root ::= \"no\" [0-9]{2} \"!\"?");
  script_ = "never";
  TestRequest request(Id());
  const ChoiceResult c = Run(request).choices.at(0);
  EXPECT_THAT(c.text, ::testing::MatchesRegex("no[0-9][0-9]!?"));
  EXPECT_EQ(c.reason, static_cast<uint32_t>(CYLLM_FINISH_STOP));
}

TEST_F(AnswerTest, ItEndsWhereNothingCanFollow) {
  Constrain("root ::= \"yes\"");
  script_ = "yes and more";
  TestRequest request(Id());
  request.sampling.ignore_eos = 1;
  const ChoiceResult c = Run(request).choices.at(0);
  EXPECT_EQ(c.text, "yes");
  EXPECT_EQ(c.completion_tokens, 3u);
  EXPECT_EQ(c.reason, static_cast<uint32_t>(CYLLM_FINISH_STOP));
}

TEST_F(AnswerTest, WhatTheVocabularyCannotSayIsCut) {
  vocabulary_.pieces['z'] = "y";
  Constrain("root ::= \"az\"");
  script_ = "az";
  TestRequest request(Id());
  const ChoiceResult c = Run(request).choices.at(0);
  EXPECT_EQ(c.text, "a");
  EXPECT_EQ(c.reason, static_cast<uint32_t>(CYLLM_FINISH_LENGTH));
  TestRequest other(Id());
  constraint_ = nullptr;
  EXPECT_EQ(Run(other).code, 0);
}

TEST_F(AnswerTest, EveryCutGoesOnTheSame) {
  const auto check = [&](const std::function<void(TestRequest&)>& ask) {
    TestRequest whole(Id());
    whole.request.has_seed = 1;
    whole.request.max_tokens = 400;
    ask(whole);
    const Result expected = Run(whole);
    ASSERT_EQ(expected.code, 0) << expected.message;
    const std::vector<Result> cuts = gatherer_.Cuts(whole.request.id);
    for (const Result& cut : cuts) {
      TestRequest rest(Id());
      rest.request.has_seed = 1;
      rest.request.max_tokens = 400;
      ask(rest);
      rest.Resume(cut);
      gatherer_.Before(rest.request.id, cut);
      const Result got = Run(rest);
      ASSERT_EQ(got.code, 0) << got.message;
      for (const auto& [i, choice] : expected.choices) {
        EXPECT_EQ(got.choices.at(i).text, choice.text);
        EXPECT_EQ(got.choices.at(i).reasoning, choice.reasoning);
        EXPECT_EQ(got.choices.at(i).calls, choice.calls);
        EXPECT_EQ(got.choices.at(i).tokens, choice.tokens);
        EXPECT_EQ(got.choices.at(i).reason, choice.reason);
        EXPECT_EQ(got.choices.at(i).completion_tokens, choice.completion_tokens);
        EXPECT_EQ(got.choices.at(i).stop_match, choice.stop_match);
      }
    }
  };
  ThinkAndCall();
  check([](TestRequest&) {});
  check([](TestRequest& r) { r.request.n = 3; });
  check([](TestRequest& r) { r.Stop({"look"}); });
  check([](TestRequest& r) { r.request.max_tokens = 20; });
  parser_ = nullptr;
  script_ = "h\xC3\xA4lf STO of it STOP gone";
  check([](TestRequest& r) { r.Stop({"STOP"}).request.n = 2; });
  Constrain("root ::= [^S]+ \"STO of\" .*");
  check([](TestRequest& r) { r.Stop({"STOP"}); });
}

TEST_F(AnswerTest, StatesOfOtherRequestsAreRefused) {
  script_ = "hello";
  const std::vector<Token> tokens = {'h', 'e'}, end = {testing::kEnd};
  for (const cyllm_resume_choice& state :
       {cyllm_resume_choice{tokens.data(), 2, 3, 0, 0}, cyllm_resume_choice{tokens.data(), 2, 1, 1, 0},
        cyllm_resume_choice{end.data(), 1, 0, 0, 0}}) {
    TestRequest request(Id());
    request.resume = {state};
    const Result r = Run(request);
    EXPECT_EQ(r.code, CYLLM_INVALID_ARGUMENT);
    EXPECT_EQ(r.reason, "cannot_resume");
    EXPECT_FALSE(r.accepted);
  }
}

}  // namespace
}  // namespace cyllm::llama
