#include "coordinator/routing/policies.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "inference/prefix_hash.h"

namespace cyllm {
namespace {

std::vector<WorkerView> Workers(std::vector<uint32_t> loads) {
  std::vector<WorkerView> workers;
  for (uint32_t i = 0; i < loads.size(); ++i)
    workers.push_back({i, i + 1, Hash64("worker-" + std::to_string(i)), loads[i], 8});
  return workers;
}

TEST(Policies, NamesGoBothWays) {
  for (const auto kind : {PolicyKind::kRoundRobin, PolicyKind::kRandom, PolicyKind::kLeastLoad,
                          PolicyKind::kPowerOfTwo, PolicyKind::kConsistentHash, PolicyKind::kPrefixAware}) {
    EXPECT_EQ(PolicyOf(NameOf(kind)), kind);
  }
  EXPECT_FALSE(PolicyOf("best"));
}

TEST(Policies, Simple) {
  const auto workers = Workers({3, 1, 2, 1});
  EXPECT_EQ(PickRoundRobin(workers, 6), 2u);
  EXPECT_EQ(PickRandom(workers, 7), 3u);
  EXPECT_EQ(PickLeastLoad(workers, 0), 1u);
  EXPECT_EQ(PickLeastLoad(workers, 2), 3u);                     // equals take turns by chance
  EXPECT_EQ(PickPowerOfTwo(workers, 0), 1u);                    // 0 against 1
  EXPECT_EQ(PickPowerOfTwo(workers, (uint64_t{1} << 32)), 2u);  // 0 against 2
  const auto one = Workers({9});
  EXPECT_EQ(PickPowerOfTwo(one, 5), 0u);
  EXPECT_EQ(PickConsistentHash(one, 5), 0u);
}

TEST(Policies, ConsistentHashMovesOnlyWhatItMust) {
  auto workers = Workers(std::vector<uint32_t>(16, 0));
  std::map<size_t, int> share;
  std::vector<size_t> before;
  for (uint64_t key = 0; key < 4'000; ++key) {
    before.push_back(PickConsistentHash(workers, Mix64(key, 1)));
    ++share[before.back()];
  }
  for (const auto& [worker, keys] : share) EXPECT_NEAR(keys, 250, 75) << worker;
  workers.pop_back();
  for (uint64_t key = 0; key < 4'000; ++key) {
    if (before[key] != 15) {
      EXPECT_EQ(PickConsistentHash(workers, Mix64(key, 1)), before[key]);
    }
  }
}

TEST(Policies, ConsistentHashSpillsToTheNextInRank) {
  auto workers = Workers({0, 0, 0, 0});
  const size_t first = PickConsistentHash(workers, 99);
  workers[first].load = 20;
  const size_t second = PickConsistentHash(workers, 99);
  EXPECT_NE(second, first);
  EXPECT_EQ(PickConsistentHash(workers, 99), second);  // the same for every replica
  for (auto& worker : workers) worker.load = 20;
  EXPECT_EQ(PickConsistentHash(workers, 99), first);  // all alike: back to the first
}

TEST(Policies, PrefixAwareAsATable) {
  std::vector<uint64_t> blocks;
  for (uint64_t i = 0; i < 64; ++i) blocks.push_back(Mix64(i, 3));
  const size_t home = PickConsistentHash(Workers({0, 0, 0, 0}), blocks[3]);
  const size_t other = (home + 1) % 4;
  const auto at = [&](uint32_t here, uint32_t there) {
    std::vector<uint32_t> loads(4, 0);
    loads[home] = here;
    loads[other] = there;
    return Workers(loads);
  };
  const auto slot = [](size_t worker) { return static_cast<uint32_t>(worker + 1); };
  const struct {
    const char* what;
    uint32_t home_load, other_load;
    uint32_t home_has, other_has;  // blocks
    size_t expected;
  } rows[] = {
      {"nobody holds anything: the ranking", 0, 0, 0, 0, home},
      {"who holds it all", 0, 0, 0, 64, other},
      {"the longer prefix", 0, 0, 10, 40, other},
      {"a few blocks are not worth a queue", 0, 4, 0, 10, home},
      {"many are", 0, 4, 0, 40, other},
      {"one block is chance", 0, 0, 0, 1, home},
      {"the home itself holds it", 1, 0, 64, 8, home},
  };
  for (const auto& row : rows) {
    std::vector<PrefixMatch> matches;
    if (row.home_has) matches.push_back({slot(home), row.home_has});
    if (row.other_has) matches.push_back({slot(other), row.other_has});
    const PrefixPick pick = PickPrefixAware(blocks, at(row.home_load, row.other_load), matches, 0);
    EXPECT_EQ(pick.chosen, row.expected) << row.what;
  }
  // What is to be prefilled before it counts as much as its own.
  auto workers = at(0, 0);
  const PrefixMatch half{slot(other), 40};
  workers[other].prefill = 39;
  EXPECT_EQ(PickPrefixAware(blocks, workers, {&half, 1}, 0).chosen, other);
  workers[other].prefill = 41;
  EXPECT_EQ(PickPrefixAware(blocks, workers, {&half, 1}, 0).chosen, home);
  // A worker that is no candidate any more is not followed.
  const PrefixMatch gone{77, 64};
  EXPECT_EQ(PickPrefixAware(blocks, at(0, 0), {&gone, 1}, 0).chosen, home);
}

TEST(Policies, ShortPromptsAreSpread) {
  const auto workers = Workers(std::vector<uint32_t>(8, 0));
  std::mt19937_64 random(5);
  std::map<size_t, int> share;
  for (int i = 0; i < 800; ++i) ++share[PickPrefixAware({}, workers, {}, random()).chosen];
  EXPECT_EQ(share.size(), 8u);
  for (const auto& [worker, times] : share) EXPECT_NEAR(times, 100, 45) << worker;
}

}  // namespace
}  // namespace cyllm
