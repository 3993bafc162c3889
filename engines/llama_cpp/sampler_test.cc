#include "llama_cpp/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

namespace cyllm::llama {
namespace {

SamplingParams Plain() {
  SamplingParams p;
  p.temperature = 1;
  p.top_k = 0;
  p.top_p = 1;
  p.min_p = 0;
  p.seed = 7;
  return p;
}

std::vector<float> Logits() {  // probabilities 1/2, 1/4, 1/8, 1/16, 1/16, in a mixed order
  const float l2 = std::log(2.0f);
  return {-3 * l2, -1 * l2, -4 * l2, -2 * l2, -4 * l2};
}

// How often each token comes in `n` draws at positions 0 .. n-1.
std::map<Token, int> Draw(const SamplingParams& params, int n) {
  std::map<Token, int> out;
  Sampler sampler(params, 0, {});
  for (int i = 0; i < n; ++i) {
    std::vector<float> logits = Logits();
    ++out[sampler.Choose(logits, static_cast<uint32_t>(i), {}).token];
  }
  return out;
}

TEST(Sampler, TemperatureZeroIsGreedy) {
  SamplingParams p = Plain();
  p.temperature = 0;
  EXPECT_EQ(Draw(p, 20), (std::map<Token, int>{{1, 20}}));
}

TEST(Sampler, DrawsByProbability) {
  const auto n = Draw(Plain(), 8000);
  EXPECT_NEAR(n.at(1), 4000, 200);
  EXPECT_NEAR(n.at(3), 2000, 200);
  EXPECT_NEAR(n.at(0), 1000, 150);
  EXPECT_NEAR(n.at(2), 500, 120);
}

TEST(Sampler, LowTemperatureSharpens) {
  SamplingParams p = Plain();
  p.temperature = 0.5;  // squares the weights: 64:16:4:1:1
  EXPECT_NEAR(Draw(p, 8600).at(1), 6400, 250);
}

TEST(Sampler, Filters) {
  const auto tokens = [](const SamplingParams& p) {
    std::set<Token> out;
    for (const auto& [token, n] : Draw(p, 3000)) out.insert(token);
    return out;
  };
  SamplingParams p = Plain();
  p.top_k = 2;
  EXPECT_THAT(tokens(p), ::testing::ElementsAre(1, 3));
  p = Plain();
  p.top_p = 0.8;
  EXPECT_THAT(tokens(p), ::testing::ElementsAre(0, 1, 3));
  p.top_k = 3;  // what is left counts as the whole: 4/7, 2/7, 1/7
  EXPECT_THAT(tokens(p), ::testing::ElementsAre(1, 3));
  p.top_p = 0;
  EXPECT_THAT(tokens(p), ::testing::ElementsAre(1));
  p = Plain();
  p.min_p = 0.4;
  EXPECT_THAT(tokens(p), ::testing::ElementsAre(1, 3));
  p.top_k = 5;
  EXPECT_THAT(tokens(p), ::testing::ElementsAre(1, 3));
}

TEST(Sampler, NoiseIsAFunctionOfSeedChoiceAndPosition) {
  const auto draw = [](uint64_t seed, uint32_t choice) {
    SamplingParams p = Plain();
    p.seed = seed;
    std::vector<Token> out;
    for (const uint32_t position : {5u, 1u, 9u, 1u, 30u, 31u, 32u, 33u, 34u, 35u}) {
      Sampler sampler(p, choice, {});
      std::vector<float> logits = Logits();
      out.push_back(sampler.Choose(logits, position, {}).token);
    }
    return out;
  };
  EXPECT_EQ(draw(1, 0), draw(1, 0));
  EXPECT_EQ(draw(1, 0)[1], draw(1, 0)[3]);
  EXPECT_NE(draw(1, 0), draw(2, 0));
  EXPECT_NE(draw(1, 0), draw(1, 1));
}

TEST(Sampler, Penalties) {
  SamplingParams p = Plain();
  p.temperature = 0;
  p.frequency_penalty = 0.5;  // the second is ln 2 = 0.69 behind: overtakes after the second time
  Sampler frequency(p, 0, {});
  std::vector<Token> out;
  for (uint32_t i = 0; i < 4; ++i) {
    std::vector<float> logits = Logits();
    out.push_back(frequency.Choose(logits, i, {}).token);
    frequency.Count(out.back());
  }
  EXPECT_EQ(out, (std::vector<Token>{1, 1, 3, 1}));

  p = Plain();
  p.temperature = 0;
  p.repetition_penalty = 4;
  const std::vector<Token> prompt = {1};
  std::vector<float> logits = Logits();
  EXPECT_EQ(Sampler(p, 0, prompt).Choose(logits, 0, {}).token, 3);
  p.presence_penalty = 100;  // of the output only
  p.repetition_penalty = 1;
  logits = Logits();
  EXPECT_EQ(Sampler(p, 0, prompt).Choose(logits, 0, {}).token, 1);
}

TEST(Sampler, BiasAndBans) {
  SamplingParams p = Plain();
  p.temperature = 0;
  p.logit_bias = {{4, 100.0f}, {-1, 1.0f}, {99, 1.0f}};
  std::vector<float> logits = Logits();
  EXPECT_EQ(Sampler(p, 0, {}).Choose(logits, 0, {}).token, 4);
  logits = Logits();
  const std::vector<Token> banned = {4, 1};
  EXPECT_EQ(Sampler(p, 0, {}).Choose(logits, 0, banned).token, 3);
}

TEST(Sampler, LogprobsAreTheModelsOwn) {
  SamplingParams p = Plain();
  p.temperature = 0;
  p.logprobs = true;
  p.top_logprobs = 2;
  p.logit_bias = {{3, 100.0f}};
  std::vector<float> logits = Logits();
  for (float& l : logits) l += 3;
  const Sample s = Sampler(p, 0, {}).Choose(logits, 0, {});
  EXPECT_EQ(s.token, 3);
  EXPECT_NEAR(s.logprob, std::log(0.25), 1e-4);
  ASSERT_EQ(s.top.size(), 2u);
  EXPECT_EQ(s.top[0].token, 1);
  EXPECT_NEAR(s.top[0].logprob, std::log(0.5), 1e-4);
}

}  // namespace
}  // namespace cyllm::llama
