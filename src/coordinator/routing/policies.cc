#include "coordinator/routing/policies.h"

#include <algorithm>
#include <array>

#include "inference/prefix_hash.h"

namespace cyllm {
namespace {

constexpr std::array<const char*, kPolicies> kNames = {"round_robin",  "random",          "least_load",
                                                       "power_of_two", "consistent_hash", "prefix_aware"};
constexpr size_t kRankBlocks = 4;

}  // namespace

const char* NameOf(PolicyKind kind) { return kNames[static_cast<size_t>(kind)]; }

std::optional<PolicyKind> PolicyOf(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i)
    if (name == kNames[i]) return static_cast<PolicyKind>(i);
  return std::nullopt;
}

size_t PickRoundRobin(std::span<const WorkerView> workers, uint64_t turn) { return turn % workers.size(); }

size_t PickRandom(std::span<const WorkerView> workers, uint64_t random) { return random % workers.size(); }

size_t PickLeastLoad(std::span<const WorkerView> workers, uint64_t random) {
  const size_t start = random % workers.size();
  size_t best = start;
  for (size_t i = 1; i < workers.size(); ++i) {
    const size_t at = start + i < workers.size() ? start + i : start + i - workers.size();
    if (workers[at].load < workers[best].load) best = at;
  }
  return best;
}

size_t PickPowerOfTwo(std::span<const WorkerView> workers, uint64_t random) {
  if (workers.size() == 1) return 0;
  const size_t first = (random & 0xffffffff) % workers.size();
  const size_t second = (first + 1 + (random >> 32) % (workers.size() - 1)) % workers.size();
  return workers[second].load < workers[first].load ? second : first;
}

size_t PickConsistentHash(std::span<const WorkerView> workers, uint64_t key) {
  uint64_t total = 0;
  for (const WorkerView& worker : workers) total += worker.load;
  // A quarter more than the mean, with this request counted; never less than one.
  const uint64_t bound = (5 * (total + 1) + 4 * workers.size() - 1) / (4 * workers.size());
  size_t best = workers.size(), least = 0;
  uint64_t best_score = 0;
  for (size_t i = 0; i < workers.size(); ++i) {
    if (workers[i].load < workers[least].load) least = i;
    if (workers[i].load + 1 > bound) continue;
    const uint64_t score = Mix64(workers[i].id, key);
    if (best == workers.size() || score > best_score) {
      best = i;
      best_score = score;
    }
  }
  return best < workers.size() ? best : least;
}

PrefixPick PickPrefixAware(std::span<const uint64_t> blocks, std::span<const WorkerView> workers,
                           std::span<const PrefixMatch> matches, uint64_t random,
                           const PrefixWeights& weights) {
  if (blocks.empty()) return {PickPowerOfTwo(workers, random), 0};
  const auto cost = [&](size_t at, uint32_t matched) {
    return static_cast<double>(workers[at].prefill + blocks.size() - matched) +
           weights.load * workers[at].load;
  };
  PrefixPick best{PickConsistentHash(workers, blocks[std::min(blocks.size(), kRankBlocks) - 1]), 0};
  for (const PrefixMatch& match : matches) {
    if (match.slot == PrefixIndex::Short(workers[best.chosen].slot)) best.matched = match.blocks;
  }
  double least = cost(best.chosen, best.matched);
  for (const PrefixMatch& match : matches) {
    if (match.blocks < weights.floor) continue;
    for (size_t at = 0; at < workers.size(); ++at) {
      if (PrefixIndex::Short(workers[at].slot) != match.slot) continue;
      const double its = cost(at, match.blocks);
      if (its < least) {
        least = its;
        best = {at, match.blocks};
      }
      break;
    }
  }
  return best;
}

}  // namespace cyllm
