#include "coordinator/routing/simulation.h"

#include <gtest/gtest.h>

namespace cyllm {
namespace {

SimulationOptions Small() {
  SimulationOptions options;
  options.workers = 16;
  options.requests = 6'000;
  options.conversations = 400;
  return options;
}

TEST(Simulation, EqualSeedsAreEqual) {
  const auto once = Simulate(PolicyKind::kPrefixAware, Small()),
             again = Simulate(PolicyKind::kPrefixAware, Small());
  EXPECT_EQ(once.checksum, again.checksum);
  EXPECT_EQ(once.ttft_mean, again.ttft_mean);
  SimulationOptions other = Small();
  other.seed = 2;
  EXPECT_NE(Simulate(PolicyKind::kPrefixAware, other).checksum, once.checksum);
}

// What the default is worth: more of the prompts cached, and the first token sooner, than with policies that
// know nothing of prefixes; without piling the work on few workers.
TEST(Simulation, PrefixAwareBeatsBlindPolicies) {
  const SimulationResult aware = Simulate(PolicyKind::kPrefixAware, Small());
  for (const PolicyKind blind : {PolicyKind::kRoundRobin, PolicyKind::kRandom, PolicyKind::kPowerOfTwo}) {
    const SimulationResult other = Simulate(blind, Small());
    EXPECT_GT(aware.hit, other.hit + 0.1) << NameOf(blind);
    EXPECT_LT(aware.ttft_mean, other.ttft_mean) << NameOf(blind);
    EXPECT_LT(aware.ttft_p99, other.ttft_p99) << NameOf(blind);
  }
  EXPECT_LT(aware.imbalance, 1.6);
}

}  // namespace
}  // namespace cyllm
