#include "llama_cpp/engine.h"

#include <gtest/gtest.h>

#include <future>

#include "llama_cpp/fake_model.h"
#include "llama_cpp/test_client.h"

namespace cyllm::llama {
namespace {

using testing::FakeChat;
using testing::FakeDecoder;
using testing::FakeVocabulary;
using testing::Gatherer;
using testing::TestRequest;

class EngineTest : public ::testing::Test {
 protected:
  void Start(uint32_t max_waiting = 8) {
    engine_ = std::make_unique<Engine>(decoder_, vocabulary_, chat_, EngineLimits{512, max_waiting},
                                       gatherer_.callbacks());
  }
  cyllm_error Submit(TestRequest& request) {
    cyllm_error error{};
    error.size = sizeof error;
    EXPECT_EQ(engine_->Submit(request.get(), &error), error.code);
    return error;
  }
  cyllm_error Submit(uint64_t id, const std::string& prompt, uint32_t max_tokens) {
    TestRequest request(id);
    request.Text(prompt).request.max_tokens = max_tokens;
    return Submit(request);
  }
  // The first step waits until Open, or until it is told to give up.
  void HoldSteps() {
    decoder_.on_decode = [this](const std::atomic<bool>& abort) {
      started_.set_value();
      decoder_.on_decode = nullptr;
      while (!open_ && !abort) std::this_thread::yield();
    };
  }

  FakeVocabulary vocabulary_;
  FakeChat chat_;
  FakeDecoder decoder_{2, 64};
  Gatherer gatherer_;
  std::promise<void> started_;
  std::atomic<bool> open_ = false;
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineTest, AnswersRequestsOfAllKinds) {
  Start();
  EXPECT_EQ(Submit(1, "wx", 9).code, CYLLM_OK);
  TestRequest chat(2);
  chat.messages = "rs";
  chat.request.max_tokens = 2;
  EXPECT_EQ(Submit(chat).code, CYLLM_OK);
  TestRequest tokens(3);
  tokens.Tokens({'f'}).request.max_tokens = 1;
  EXPECT_EQ(Submit(tokens).code, CYLLM_OK);
  EXPECT_EQ(gatherer_.Wait(1).choices[0].text, "yz");
  EXPECT_EQ(gatherer_.Wait(2).choices[0].text, "tu");
  EXPECT_EQ(gatherer_.Wait(3).choices[0].text, "g");
}

TEST_F(EngineTest, RefusesWhatItCannotDo) {
  Start();
  TestRequest resume(2);
  const Token strange = 99999;
  resume.Chat("x").resume = {{&strange, 1, 0, 0, 0}};
  EXPECT_EQ(Submit(resume).code, CYLLM_INVALID_ARGUMENT);
  TestRequest tokens(4);
  tokens.Tokens({99999});
  EXPECT_EQ(Submit(tokens).code, CYLLM_INVALID_ARGUMENT);
  TestRequest biased(6);
  const cyllm_logit_bias beyond{99999, 1};
  biased.Text("a").sampling.logit_bias = &beyond;
  biased.sampling.n_logit_bias = 1;
  const cyllm_error error = Submit(biased);
  EXPECT_EQ(error.code, CYLLM_INVALID_ARGUMENT);
  EXPECT_STREQ(error.param, "logit_bias");
  TestRequest none(5);
  none.Text("a").request.n = 0;
  EXPECT_EQ(Submit(none).code, CYLLM_INVALID_ARGUMENT);
}

TEST_F(EngineTest, AdaptersAreAskedForByName) {
  decoder_.names = {"poet"};
  Start();
  TestRequest known(1), unknown(2), vector(3), tokens(4);
  known.Text("wx").Adapter("poet").request.max_tokens = 9;
  EXPECT_EQ(Submit(known).code, CYLLM_OK);
  EXPECT_EQ(gatherer_.Wait(1).choices[0].text, "yz");
  EXPECT_EQ(decoder_.step_adapters, std::vector<uint32_t>(decoder_.steps.size(), 1));
  unknown.Text("wx").Adapter("cook");
  const cyllm_error error = Submit(unknown);
  EXPECT_EQ(error.code, CYLLM_NOT_FOUND);
  EXPECT_STREQ(error.reason, "adapter_not_found");
  EXPECT_STREQ(error.param, "adapter");
  EXPECT_STREQ(error.message, "the model has no adapter 'cook'");
  vector.Adapter("poet").request.kind = CYLLM_KIND_EMBED;
  EXPECT_EQ(Submit(vector).code, CYLLM_UNIMPLEMENTED);
  tokens.Adapter("poet").request.kind = CYLLM_KIND_TOKENIZE;
  tokens.prompt = "a";
  EXPECT_EQ(Submit(tokens).code, CYLLM_OK);
  EXPECT_EQ(gatherer_.Wait(4).code, CYLLM_OK);
}

TEST_F(EngineTest, APromptThatIsTooLongOrWrongEndsBeforeItIsAccepted) {
  Start();
  TestRequest chat(1);
  chat.messages = std::string(64, 'a');
  EXPECT_EQ(Submit(chat).code, CYLLM_OK);
  const auto r = gatherer_.Wait(1);
  EXPECT_FALSE(r.accepted);
  EXPECT_EQ(r.code, CYLLM_INVALID_ARGUMENT);
  EXPECT_EQ(r.reason, "context_length_exceeded");
  EXPECT_EQ(r.param, "messages");
  TestRequest bad(2);
  bad.messages = "bad";
  EXPECT_EQ(Submit(bad).code, CYLLM_OK);
  EXPECT_EQ(gatherer_.Wait(2).message, "bad messages");
  EXPECT_EQ(Submit(3, "", 1).code, CYLLM_OK);
  EXPECT_EQ(gatherer_.Wait(3).code, CYLLM_INVALID_ARGUMENT);
}

TEST_F(EngineTest, TheQueueIsBounded) {
  HoldSteps();
  Start(3);
  for (uint64_t id = 1; id <= 5; ++id) EXPECT_EQ(Submit(id, "a", 1).code, CYLLM_OK);
  const cyllm_error error = Submit(6, "a", 1);
  EXPECT_EQ(error.code, CYLLM_RESOURCE_EXHAUSTED);
  EXPECT_STREQ(error.reason, "overloaded");
  EXPECT_TRUE(error.retryable);
  open_ = true;
  for (uint64_t id = 1; id <= 5; ++id) EXPECT_EQ(gatherer_.Wait(id).choices[0].text, "b");
  engine_->Drain();  // what is delivered leaves the queue
  EXPECT_EQ(engine_->Stats().running, 0u);
  EXPECT_EQ(engine_->Stats().waiting, 0u);
  EXPECT_EQ(Submit(7, "a", 1).code, CYLLM_UNAVAILABLE);
}

TEST_F(EngineTest, CancelCutsTheRunningStep) {
  HoldSteps();
  Start();
  EXPECT_EQ(Submit(1, "a", 50).code, CYLLM_OK);
  started_.get_future().wait();
  engine_->Cancel(1);
  engine_->Cancel(1);
  EXPECT_EQ(gatherer_.Wait(1).code, CYLLM_CANCELLED);
  EXPECT_EQ(Submit(2, "m", 2).code, CYLLM_OK);
  EXPECT_EQ(gatherer_.Wait(2).choices[0].text, "no");
}

TEST_F(EngineTest, CancelLeavesOthersOfTheStepAlone) {
  Start();
  TestRequest stalled(1);
  stalled.Text("a").request.max_tokens = 20;
  stalled.request.credit = 3;
  Submit(stalled);
  TestRequest other(2);
  other.Text("a").request.max_tokens = 20;
  other.request.credit = 3;
  Submit(other);
  gatherer_.WaitText(1, 3);
  gatherer_.WaitText(2, 3);
  engine_->Cancel(1);
  EXPECT_EQ(gatherer_.Wait(1).code, CYLLM_CANCELLED);
  EXPECT_EQ(gatherer_.Now(1).choices[0].text, "bcd");
  engine_->Credit(2, 50);
  EXPECT_EQ(gatherer_.Wait(2).choices[0].text.size(), 20u);
}

TEST_F(EngineTest, CommandsMayComeBeforeThePromptIsReady) {
  for (uint64_t id = 1; id <= 50; ++id) {
    if (!engine_) Start(100);
    TestRequest request(id);
    request.Text("a").request.max_tokens = 2;
    request.request.credit = 0;
    ASSERT_EQ(Submit(request).code, CYLLM_OK);
    if (id % 2) {
      engine_->Credit(id, 2);
      EXPECT_EQ(gatherer_.Wait(id).choices[0].text, "bc");
    } else {
      engine_->Cancel(id);
      EXPECT_EQ(gatherer_.Wait(id).code, CYLLM_CANCELLED);
    }
  }
  engine_->Cancel(1000);
  engine_->Credit(1000, 1);
}

TEST_F(EngineTest, DestroyingEndsEverything) {
  Start();
  for (uint64_t id = 1; id <= 4; ++id) {
    TestRequest request(id);
    request.Text("a").request.credit = 1;
    Submit(request);
  }
  gatherer_.WaitText(1, 1);
  engine_.reset();
  for (uint64_t id = 1; id <= 4; ++id) EXPECT_EQ(gatherer_.Now(id).code, CYLLM_CANCELLED);
}

TEST_F(EngineTest, WhoWaitsBehindStalledReadersIsServedWithoutAnotherCall) {
  Start();
  for (uint64_t id = 1; id <= 2; ++id) {
    TestRequest stalled(id);
    stalled.Text("a").request.credit = 1;
    Submit(stalled);
    gatherer_.WaitText(id, 1);
  }
  EXPECT_EQ(Submit(3, "m", 2).code, CYLLM_OK);
  EXPECT_EQ(gatherer_.Wait(3).choices[0].text, "no");
}

TEST_F(EngineTest, WhatAPromptThrowsEndsThisRequest) {
  vocabulary_.on_tokenize = [](std::string_view text) {
    if (text == "bad") throw std::runtime_error("a bad one");
  };
  Start();
  EXPECT_EQ(Submit(1, "bad", 1).code, CYLLM_OK);
  EXPECT_EQ(gatherer_.Wait(1).code, CYLLM_INTERNAL);
  EXPECT_EQ(Submit(2, "m", 2).code, CYLLM_OK);
  EXPECT_EQ(gatherer_.Wait(2).choices[0].text, "no");
}

// At least 8 KiB of the stack for each level.
[[gnu::noinline]] int Recurse(int depth, const volatile char* above = nullptr) {
  volatile char room[8192];
  room[0] = static_cast<char>(above ? *above + 1 : 0);
  return depth == 0 ? 0 : Recurse(depth - 1, room) + (room[0] == static_cast<char>(above ? *above + 1 : 0));
}

TEST_F(EngineTest, PromptsMayTakeALargeStack) {
  std::atomic<int> depth = 0;
  vocabulary_.on_tokenize = [&](std::string_view) { depth = Recurse(20'000); };
  Start();
  EXPECT_EQ(Submit(1, "m", 2).code, CYLLM_OK);
  EXPECT_EQ(gatherer_.Wait(1).choices[0].text, "no");
  EXPECT_EQ(depth, 20'000);
}

TEST_F(EngineTest, APromptThatNobodyWantsAnyMoreIsNotRead) {
  std::promise<void> begun, open;
  std::vector<std::string> read;
  vocabulary_.on_tokenize = [&](std::string_view text) {
    read.emplace_back(text);
    if (read.size() > 1) return;
    begun.set_value();
    open.get_future().wait();
  };
  Start();
  EXPECT_EQ(Submit(1, "m", 2).code, CYLLM_OK);
  begun.get_future().wait();
  EXPECT_EQ(Submit(2, "unwanted", 2).code, CYLLM_OK);
  EXPECT_EQ(Submit(3, "m", 2).code, CYLLM_OK);
  engine_->Cancel(2);
  engine_->Cancel(2);
  engine_->Credit(2, 1);
  EXPECT_EQ(gatherer_.Wait(2).code, CYLLM_CANCELLED);
  open.set_value();
  EXPECT_EQ(gatherer_.Wait(1).choices[0].text, "no");
  EXPECT_EQ(gatherer_.Wait(3).choices[0].text, "no");
  EXPECT_EQ(read, (std::vector<std::string>{"m", "m"}));
}

TEST_F(EngineTest, APromptWithoutABreakIsRefused) {
  Start();
  vocabulary_.on_tokenize = [](std::string_view) { ADD_FAILURE(); };
  EXPECT_EQ(Submit(1, std::string(kLongStretch, 'a'), 2).code, CYLLM_OK);
  EXPECT_EQ(gatherer_.Wait(1).code, CYLLM_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace cyllm::llama
