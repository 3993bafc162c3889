#include "llama_cpp/choice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "llama_cpp/fake_model.h"

namespace cyllm::llama {
namespace {

class ChoiceTest : public ::testing::Test {
 protected:
  ChoiceTest() {
    request_.prompt = {'p'};
    request_.max_tokens = 10;
    request_.sampling.temperature = 1;
    request_.sampling.top_k = 0;
    request_.sampling.top_p = 1;
    request_.sampling.min_p = 0;
    request_.sampling.logprobs = true;
    request_.sampling.top_logprobs = 2;
    request_.output.scores = true;
  }
  void Constrain(std::string_view gbnf) {
    std::string why;
    auto constraint = std::make_shared<ConstraintSpec>();
    constraint->grammar = Grammar::Compile(gbnf, &why);
    ASSERT_TRUE(constraint->grammar) << why;
    request_.constraint = constraint;
    request_.index = &index_;
  }
  static std::vector<float> Logits(const std::map<char, double>& shares) {
    std::vector<float> out(testing::kVocabulary, -100.0f);
    for (const auto& [c, share] : shares) out[static_cast<uint8_t>(c)] = static_cast<float>(std::log(share));
    return out;
  }

  testing::FakeVocabulary vocabulary_;
  const TokenIndex index_{vocabulary_};
  Request request_;
};

TEST_F(ChoiceTest, WhatIsAllowedKeepsItsProportions) {
  Constrain("root ::= [AB] [a-z]");
  std::map<Token, int> n;
  constexpr int kDraws = 10'000;
  for (int seed = 0; seed < kDraws; ++seed) {
    request_.sampling.seed = static_cast<uint64_t>(seed);
    Choice choice(request_, 0, vocabulary_);
    std::vector<float> logits = Logits({{'R', 0.5}, {'A', 0.3}, {'B', 0.2}});
    choice.Next(logits, {});
    ++n[choice.tokens().back()];
  }
  EXPECT_NEAR(n['A'], 0.6 * kDraws, 200);
  EXPECT_NEAR(n['B'], 0.4 * kDraws, 200);
}

TEST_F(ChoiceTest, LogprobsAreTheModelsOwnWhateverIsAllowed) {
  Constrain("root ::= \"B\" [a-z]");
  std::vector<float> logits = Logits({{'R', 0.5}, {'A', 0.3}, {'B', 0.2}});
  request_.sampling.temperature = 0;
  Choice choice(request_, 0, vocabulary_);
  choice.Next(logits, {});
  const std::optional<Delta> delta = choice.output().Take();
  ASSERT_TRUE(delta);
  ASSERT_EQ(delta->scores.size(), 1u);
  const Sample& sample = delta->scores[0].sample;
  EXPECT_EQ(sample.token, 'B');
  EXPECT_NEAR(sample.logprob, std::log(0.2), 1e-4);
  ASSERT_EQ(sample.top.size(), 2u);
  EXPECT_EQ(sample.top[0].token, 'R');
  EXPECT_NEAR(sample.top[0].logprob, std::log(0.5), 1e-4);
  EXPECT_EQ(sample.top[1].token, 'A');
}

}  // namespace
}  // namespace cyllm::llama
