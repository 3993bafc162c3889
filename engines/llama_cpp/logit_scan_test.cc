#include "llama_cpp/logit_scan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace cyllm::llama {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

std::vector<float> Random(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> out(n);
  for (float& l : out) l = std::round(normal(random) * 64) / 64;  // so that some are equal
  return out;
}

TEST(LogitScan, ArgMaxIsTheFirstOfTheHighest) {
  LogitScan scan;
  std::vector<float> logits(1000, -1);
  logits[517] = logits[803] = 4;
  scan.Scan(logits);
  EXPECT_EQ(scan.ArgMax(), 517);
  const std::vector<float> two = {-3, -2};
  scan.Scan(two);
  EXPECT_EQ(scan.ArgMax(), 1);
  const std::vector<float> none(70, kNever);
  scan.Scan(none);
  EXPECT_EQ(scan.ArgMax(), 0);
}

TEST(LogitScan, AgreesWithSorting) {
  for (const size_t n : {1u, 63u, 64u, 65u, 1000u, 49152u}) {
    std::vector<float> logits = Random(n, static_cast<uint32_t>(n));
    if (n > 10) logits[3] = kNever;
    std::vector<Token> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](Token a, Token b) {
      const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    });
    LogitScan scan;
    scan.Scan(logits);
    EXPECT_EQ(scan.ArgMax(), order[0]);
    std::vector<ScoredToken> got;
    for (const size_t k : {1u, 2u, 40u, 800u}) {
      scan.Top(k, &got);
      ASSERT_EQ(got.size(), std::min(k, n > 10 ? n - 1 : n));
      for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i].token, order[i]) << n << " " << k << " " << i;
    }
    scan.AtLeast(1.5f, &got);
    EXPECT_EQ(got.size(), static_cast<size_t>(std::count_if(logits.begin(), logits.end(),
                                                            [](float l) { return l >= 1.5f; })));
  }
}

TEST(LogitScan, SumsOfExponentials) {
  for (const float scale : {0.3f, 1.0f, 2.5f}) {
    const std::vector<float> logits = Random(10007, 5);
    const float max = *std::max_element(logits.begin(), logits.end());
    double wanted = 0;
    for (const float l : logits) wanted += std::exp(static_cast<double>(l - max) * scale);
    std::vector<float> weights;
    EXPECT_NEAR(SumExp(logits, max, scale, &weights) / wanted, 1, 1e-6);
    for (size_t i = 0; i < weights.size(); i += 97)
      EXPECT_NEAR(weights[i] / std::exp((logits[i] - max) * scale), 1, 2e-6);
  }
}

TEST(LogitScan, FloorOfAMass) {
  std::vector<float> few = {0.25f, 1, 0.5f, 0.125f, 0.125f};  // 2 in all
  EXPECT_EQ(MassFloor(few, 0), 1);
  EXPECT_EQ(MassFloor(few, 1.0), 1);
  EXPECT_EQ(MassFloor(few, 1.4), 0.5f);
  EXPECT_EQ(MassFloor(few, 1.6), 0.25f);
  EXPECT_EQ(MassFloor(few, 1.8), 0.125f);
  EXPECT_EQ(MassFloor(few, 9), 0);
  for (uint32_t seed = 0; seed < 50; ++seed) {
    std::vector<float> weights = Random(500 + seed, seed);
    for (float& w : weights) w = std::exp(w);
    std::vector<float> sorted = weights;
    std::sort(sorted.begin(), sorted.end(), std::greater());
    const double mass = std::accumulate(sorted.begin(), sorted.end(), 0.0) * (seed + 1) / 51;
    double sum = 0;
    size_t i = 0;
    while ((sum += sorted[i]) < mass) ++i;
    EXPECT_EQ(MassFloor(weights, mass), sorted[i]) << seed;
  }
}

}  // namespace
}  // namespace cyllm::llama
