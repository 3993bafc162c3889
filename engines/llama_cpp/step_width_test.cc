#include "llama_cpp/step_width.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>

namespace cyllm::llama {
namespace {

using Seconds = StepWidth::Seconds;

// How often each width was computed, in `steps` steps of `rows` rows.
std::map<uint32_t, int> Steps(StepWidth& width, uint32_t rows, int steps,
                              const std::function<double(uint32_t)>& cost, uint32_t threads = 2) {
  std::map<uint32_t, int> out;
  for (int i = 0; i < steps; ++i) {
    const uint32_t computed = width.Choose(rows, threads);
    ++out[computed];
    width.Report(rows, threads, Seconds(cost(computed)));
  }
  return out;
}

// Blocks of 4, and three times as much for a row that is left over.
double Blocks(uint32_t rows) { return rows / 4 * 4 + 3 * (rows % 4); }
double EachTheSame(uint32_t rows) { return rows; }

TEST(StepWidth, FillsUpWhereThatTakesLess) {
  StepWidth width;
  EXPECT_EQ(Steps(width, 15, 100, Blocks), (std::map<uint32_t, int>{{15, 3}, {16, 97}}));
  EXPECT_EQ(Steps(width, 15, 100, EachTheSame, 1), (std::map<uint32_t, int>{{15, 97}, {16, 3}}));
}

TEST(StepWidth, WholeBlocksStayAndFewRowsAreNotDoubled) {
  StepWidth width;
  for (const uint32_t rows : {1u, 2u, 4u, 5u, 8u, 64u})
    EXPECT_EQ(Steps(width, rows, 10, Blocks), (std::map<uint32_t, int>{{rows, 10}}));
  EXPECT_EQ(Steps(width, 3, 10, Blocks)[4], 7);
  EXPECT_EQ(Steps(width, 6, 10, Blocks)[8], 7);
}

TEST(StepWidth, OneOddStepDecidesNothing) {
  StepWidth width;
  int step = 0;
  const auto cost = [&](uint32_t rows) { return ++step == 2 ? 1000 : Blocks(rows); };
  EXPECT_EQ(Steps(width, 7, 100, cost)[8], 97);
}

TEST(StepWidth, TriesAgain) {
  StepWidth width;
  Steps(width, 7, 1006, EachTheSame);
  EXPECT_EQ(Steps(width, 7, 100, Blocks)[8], 97);
}

}  // namespace
}  // namespace cyllm::llama
