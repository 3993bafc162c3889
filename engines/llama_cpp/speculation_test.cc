#include "llama_cpp/speculation.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace cyllm::llama {
namespace {

using namespace std::chrono_literals;

std::vector<Token> Tokens(const std::string& text) { return {text.begin(), text.end()}; }

std::string Guessed(const std::string& text, uint32_t most = 4, uint32_t* match = nullptr) {
  const std::vector<Token> tokens = Tokens(text);
  const Guess guess = Lookup(tokens, most);
  if (match) *match = guess.match;
  return {guess.tokens.begin(), guess.tokens.end()};
}

TEST(LookupTest, WhatFollowedTheSameEnd) {
  uint32_t match = 0;
  EXPECT_EQ(Guessed("the cat sat. the ", 4, &match), "cat ");
  EXPECT_EQ(match, 4u);
  EXPECT_EQ(Guessed("the cat sat. the ", 2), "ca");
  EXPECT_EQ(Guessed("abcabc"), "abc");  // no further than the text goes
}

TEST(LookupTest, TheLongestMatchThenTheLatest) {
  EXPECT_EQ(Guessed("xabc1 yabc2 xabc"), "1 ya");
  EXPECT_EQ(Guessed("xabc1 xabc2 xabc"), "2 xa");
  uint32_t match = 0;
  EXPECT_EQ(Guessed(std::string(60, 'a'), 4, &match), "a");  // the latest of many
  EXPECT_EQ(match, 16u);
}

TEST(LookupTest, NothingWhereThereIsNone) {
  EXPECT_EQ(Guessed(""), "");
  EXPECT_EQ(Guessed("abc"), "");
  EXPECT_EQ(Guessed("bcabc"), "");  // two are not enough
  EXPECT_EQ(Guessed("abcxabc", 0), "");
}

TEST(AcceptanceTest, IsLearntForEachLengthOfMatch) {
  const Acceptance none;
  Acceptance a;
  EXPECT_EQ(a.Rate(3, none), 0.5);
  for (int i = 0; i < 10; ++i) a.Report(16, 1, false);
  for (int i = 0; i < 10; ++i) a.Report(3, 0, true);
  EXPECT_LT(a.Rate(3, none), 0.15);
  EXPECT_EQ(a.Rate(8, none), a.Rate(3, none)) << "nothing else is known of it";
  EXPECT_GT(a.Rate(16, none), 0.8);
  for (int i = 0; i < 10; ++i) a.Report(8, 3, true);
  EXPECT_NEAR(a.Rate(8, none), 0.75, 0.1);
  for (int i = 0; i < 100; ++i) a.Report(3, 4, false);  // what was long ago does not count
  EXPECT_GT(a.Rate(3, none), 0.9);
}

TEST(AcceptanceTest, ALongMatchIsTakenForAsGoodAsShortOnes) {
  const Acceptance none;
  Acceptance a;
  a.Report(3, 2, false);
  EXPECT_NEAR(a.Rate(3, none), 0.75, 0.01);
  EXPECT_EQ(a.Rate(16, none), a.Rate(3, none));
}

TEST(AcceptanceTest, OtherTextsCountALittle) {
  Acceptance others, a;
  for (int i = 0; i < 100; ++i) others.Report(3, 1, false);
  EXPECT_NEAR(a.Rate(3, others), 0.75, 0.02);
  for (int i = 0; i < 4; ++i) a.Report(3, 0, true);
  EXPECT_LT(a.Rate(3, others), 0.4);
}

TEST(GuessLengthTest, FollowsChanceAndCost) {
  GuessLength length;
  EXPECT_EQ(length.Best(0.5, 7), 0u);
  EXPECT_EQ(length.Best(0.99, 15), 15u);
  EXPECT_EQ(length.Best(0.96, 15), 7u);
  EXPECT_EQ(length.Best(0.99, 7), 7u);
  EXPECT_EQ(length.Best(0.99, 6), 3u);
  EXPECT_EQ(length.Best(0.99, 0), 0u);
  const auto measure = [&](uint32_t rows, std::chrono::milliseconds took) {
    for (int i = 0; i < 20; ++i) length.Report(rows, took);
  };
  measure(1, 10ms);
  measure(8, 80ms);  // nothing is won
  EXPECT_EQ(length.Best(0.99, 7), 3u);
  measure(4, 20ms);
  measure(2, 11ms);
  EXPECT_EQ(length.Best(0.5, 7), 1u);   // 1.5 tokens for 1.1 steps
  EXPECT_EQ(length.Best(0.95, 7), 3u);  // 3.7 for 2
  EXPECT_EQ(length.Best(0.05, 7), 0u);
}

TEST(GuessLengthTest, ACostThatWasNotMeasuredForLongIsTriedAgain) {
  GuessLength length;
  length.Report(1, 10ms);
  for (const uint32_t rows : GuessLength::kRows)
    for (int i = 0; i < 20; ++i) length.Report(rows, 100ms);
  for (int i = 0; i < 50; ++i) length.Report(1, 10ms);
  EXPECT_EQ(length.Best(0.99, 7), 0u);
  for (int i = 0; i < 500; ++i) length.Report(1, 10ms);
  EXPECT_GT(length.Best(0.99, 7), 0u);
}

}  // namespace
}  // namespace cyllm::llama
