#include "coordinator/routing/router.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "inference/prefix_hash.h"

namespace cyllm {
namespace {

std::vector<WorkerView> Workers(uint32_t n) {
  std::vector<WorkerView> workers;
  for (uint32_t i = 0; i < n; ++i) workers.push_back({i, i + 1, Hash64(std::to_string(i)), 0, 0});
  return workers;
}

TEST(Router, APolicyPerModel) {
  RouterOptions options;
  ASSERT_TRUE(ParsePolicies("least_load,a/b=round_robin,x=y=random", &options).ok());
  EXPECT_EQ(options.policy, PolicyKind::kLeastLoad);
  EXPECT_EQ(options.per_model.at("a/b"), PolicyKind::kRoundRobin);
  EXPECT_EQ(options.per_model.at("x=y"), PolicyKind::kRandom);
  for (const char* wrong : {"", "best", "m=", "=random", "random,"}) {
    RouterOptions unused;
    EXPECT_FALSE(ParsePolicies(wrong, &unused).ok()) << wrong;
  }
  Router router(options);
  RequestFacts facts;
  facts.model = "a/b";
  const auto workers = Workers(3);
  EXPECT_EQ(router.Pick(facts, workers, 4).chosen, 1u);
  EXPECT_STREQ(router.Pick(facts, workers, 4).policy, "round_robin");
  facts.model = "other";
  EXPECT_STREQ(router.Pick(facts, workers, 4).policy, "least_load");
}

TEST(Router, AConversationStaysWhereItIsHeld) {
  Router router({.seed = 1});
  auto workers = Workers(64);
  RequestFacts facts;
  facts.model = "m";
  PayloadParts parts;
  parts.messages_json = std::string(20'000, 'x');
  facts.prefix_hashes = PrefixHashes(facts, parts);
  const Decision first = router.Pick(facts, workers, 0);
  EXPECT_EQ(first.prefix_hit, 0);
  workers[first.chosen].load = 1;
  parts.messages_json += std::string(2'000, 'y');
  facts.prefix_hashes = PrefixHashes(facts, parts);
  const Decision second = router.Pick(facts, workers, 1);
  EXPECT_EQ(second.chosen, first.chosen);
  EXPECT_NEAR(second.prefix_hit, 78.0 / 85, 0.01);
}

TEST(Router, WhatAWorkerReportsCounts) {
  Router router({.seed = 1});
  const auto workers = Workers(8);
  RequestFacts facts;
  uint64_t state = 5;
  for (uint64_t i = 0; i < 40; ++i) facts.prefix_hashes.push_back(state = Mix64(state, i));
  // Another replica sent it there; the worker says so.
  const size_t home = Router({.seed = 1}).Pick(facts, workers, 0).chosen, holder = (home + 1) % 8;
  router.Report(workers[holder].slot, {facts.prefix_hashes, {}});
  const Decision told = router.Pick(facts, workers, 0);
  EXPECT_EQ(told.chosen, holder);
  EXPECT_EQ(told.prefix_hit, 1);
  router.Report(workers[holder].slot, {{}, facts.prefix_hashes});
  EXPECT_EQ(router.Pick(facts, workers, 0).chosen, home);
}

// Resident memory of this process.
size_t Resident() {
  std::ifstream statm("/proc/self/statm");
  size_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

TEST(Router, TheIndexTakesNoMemoryBeforeThereIsAChoice) {
  constexpr size_t kIndex = 128u << 20;
  const size_t before = Resident();
  Router router({.prefix_index_bytes = kIndex, .seed = 1});
  const auto pick = [&](size_t workers) {
    for (uint64_t i = 0; i < 3'000; ++i) {
      RequestFacts facts;
      for (uint64_t b = 0; b < 20; ++b) facts.prefix_hashes.push_back(Mix64(i, b));
      router.Pick(facts, Workers(workers), i);
    }
  };
  pick(1);
  EXPECT_LT(Resident(), before + kIndex / 8);
  pick(2);
  EXPECT_GT(Resident(), before + kIndex / 2);  // the measure sees it
}

TEST(Router, ReplicasRankAlike) {
  Router one({.seed = 1}), two({.seed = 2});
  const auto workers = Workers(16);
  for (uint64_t i = 0; i < 200; ++i) {
    RequestFacts facts;
    facts.prefix_hashes = {Mix64(i, 1), Mix64(i, 2), Mix64(i, 3), Mix64(i, 4), Mix64(i, 5)};
    EXPECT_EQ(one.Pick(facts, workers, i).chosen, two.Pick(facts, workers, 7 * i).chosen);
  }
}

}  // namespace
}  // namespace cyllm
