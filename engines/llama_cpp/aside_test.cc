#include "llama_cpp/aside.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "llama_cpp/fake_model.h"
#include "llama_cpp/test_client.h"

namespace cyllm::llama {
namespace {

using testing::FakeChat;
using testing::FakeVocabulary;
using testing::Gatherer;
using testing::Result;
using testing::TestRequest;

// The vector of an input is its first token; 16 inputs at once.
class FakeEmbedder final : public Embedder {
 public:
  explicit FakeEmbedder(std::function<void()> on_run) : on_run_(std::move(on_run)) {}

  bool ranks() const override { return false; }
  uint32_t max_tokens() const override { return 64; }
  uint32_t max_inputs() const override { return 16; }
  std::vector<Token> Pair(const std::vector<Token>& query, const std::vector<Token>&) const override {
    return query;
  }
  bool Run(std::span<const std::vector<Token>> inputs, const std::function<bool()>&,
           std::vector<std::vector<float>>* out) override {
    if (on_run_) on_run_();
    for (const std::vector<Token>& input : inputs) out->push_back({static_cast<float>(input.front())});
    return true;
  }

 private:
  const std::function<void()> on_run_;
};

class AsideTest : public ::testing::Test {
 protected:
  // Of `inputs` texts.
  void Embed(uint64_t id, size_t inputs, int32_t priority = 0) {
    TestRequest request(id);
    request.request.kind = CYLLM_KIND_EMBED;
    request.request.priority = priority;
    request.inputs.assign(inputs, "a");
    cyllm_error error{};
    error.size = sizeof error;
    ASSERT_EQ(aside_.Submit(request.get(), &error), CYLLM_OK) << error.message;
  }
  Result Tokenize(uint64_t id, const std::string& text) {
    TestRequest request(id);
    request.request.kind = CYLLM_KIND_TOKENIZE;
    request.prompt = text;
    cyllm_error error{};
    error.size = sizeof error;
    EXPECT_EQ(aside_.Submit(request.get(), &error), CYLLM_OK) << error.message;
    return gatherer_.Wait(id);
  }

  FakeVocabulary vocabulary_;
  FakeChat chat_;
  Cores cores_{2};
  Gatherer gatherer_;
  std::vector<uint64_t> ended_;   // in this order
  std::function<void()> on_run_;  // set before the first job
  Aside aside_{{[this](std::string*) { return std::make_unique<FakeEmbedder>(on_run_); }, false},
               vocabulary_,
               chat_,
               cores_,
               [this](const std::vector<cyllm_event>& events) {
                 for (const cyllm_event& event : events)
                   if (event.type == CYLLM_EVENT_END) ended_.push_back(event.id);
                 gatherer_.Take(events.data(), events.size());
               }};
};

TEST_F(AsideTest, ALongJobLetsOthersPass) {
  std::promise<void> begun, open;
  on_run_ = [&, first = true]() mutable {
    if (!std::exchange(first, false)) return;
    begun.set_value();
    open.get_future().wait();
  };
  Embed(1, 200, 5);
  begun.get_future().wait();
  Embed(2, 17, 5);
  Embed(3, 40, 1);  // more urgent
  Embed(4, 1, 5);
  open.set_value();
  for (const uint64_t id : {1, 2, 3, 4}) {
    const Result r = gatherer_.Wait(id);
    EXPECT_EQ(r.code, CYLLM_OK);
    EXPECT_EQ(r.values.size(), (std::vector<size_t>{200, 17, 40, 1})[id - 1]);
  }
  EXPECT_THAT(ended_, ::testing::ElementsAre(3, 4, 2, 1));
}

TEST_F(AsideTest, WhatAJobThrowsEndsThisOne) {
  vocabulary_.on_tokenize = [](std::string_view text) {
    if (text == "bad") throw std::runtime_error("a bad one");
  };
  EXPECT_EQ(Tokenize(1, "bad").code, CYLLM_INTERNAL);
  const Result good = Tokenize(2, "good");
  EXPECT_EQ(good.code, CYLLM_OK);
  EXPECT_EQ(good.prompt_tokens, 4u);
}

}  // namespace
}  // namespace cyllm::llama
