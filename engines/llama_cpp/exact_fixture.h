// For tests with the real model: that answers are equal, bit by bit. Log-probabilities are compared as they
// are: they differ sooner than tokens do.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "llama_cpp/backend.h"
#include "llama_cpp/engine.h"
#include "llama_cpp/llama_model.h"
#include "llama_cpp/test_client.h"
#include "llama_cpp/test_model.h"

namespace cyllm::llama::testing {

class ExactTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* path = std::getenv("CY_TEST_MODEL");
    if (!path || !*path) GTEST_SKIP() << kNoTestModel;
    options_.model_path = path;
    options_.max_num_seqs = 8;
    options_.max_model_len = 1024;
  }

  void Load() {
    model_ = LoadTestModel(options_);
    ASSERT_TRUE(model_);
    std::string text;
    for (int i = 0; i < 60; ++i) text += "Rain fell on the " + std::to_string(i * 37 % 100) + "th house. ";
    text_ = model_->vocabulary->Tokenize(text);
    ASSERT_GE(text_.size(), 400u);
  }
  void Start(EngineLimits limits, bool lane) {
    engine_.reset();
    engine_ =
        std::make_unique<Engine>(*model_->decoder, *model_->vocabulary, *model_->chat, limits,
                                 gatherer_.callbacks(), AsideModel{}, lane ? model_->prompts.get() : nullptr);
  }

  // The first tokens of a long text.
  std::unique_ptr<TestRequest> Prompt(size_t tokens, uint32_t answer) {
    auto out = std::make_unique<TestRequest>(++id_);
    out->Tokens({text_.begin(), text_.begin() + static_cast<ptrdiff_t>(tokens)});
    out->request.max_tokens = answer;
    out->sampling.logprobs = 1;
    out->sampling.ignore_eos = 1;
    return out;
  }
  void Submit(TestRequest& request) {
    cyllm_error error{};
    error.size = sizeof error;
    ASSERT_EQ(engine_->Submit(request.get(), &error), CYLLM_OK) << error.message;
  }
  ChoiceResult Wait(const TestRequest& request) {
    const Result result = gatherer_.Wait(request.request.id);
    EXPECT_EQ(result.code, 0) << result.message;
    return result.choices.at(0);
  }
  ChoiceResult Ask(TestRequest& request) {
    Submit(request);
    return Wait(request);
  }
  static void ExpectSame(const ChoiceResult& got, const ChoiceResult& expected, const std::string& what) {
    EXPECT_EQ(got.tokens, expected.tokens) << what;
    EXPECT_EQ(got.logprobs, expected.logprobs) << what;
  }

  Options options_;
  std::unique_ptr<LoadedModel> model_;
  Gatherer gatherer_;
  std::unique_ptr<Engine> engine_;
  std::vector<Token> text_;
  uint64_t id_ = 0;
};

// With two threads or more a single sequence of more than 256 tokens is decoded in other arithmetic than
// several: tests that let one run alone have one thread, or shorter ones.
inline constexpr EngineLimits kNoCache{.prefill_chunk = 128, .max_waiting = 64, .prefix_caching = false};

}  // namespace cyllm::llama::testing
