#include "coordinator/routing/simulation.h"

#include <algorithm>
#include <cmath>
#include <list>
#include <queue>
#include <random>
#include <unordered_map>

#include "inference/prefix_hash.h"

namespace cyllm {
namespace {

// Least recently used blocks leave first.
class Cache {
 public:
  explicit Cache(size_t capacity) : capacity_(capacity) {}

  // How many of the prompt's first blocks are held; then all of them are.
  uint32_t Use(std::span<const uint64_t> blocks) {
    uint32_t held = 0;
    bool unbroken = true;
    for (const uint64_t block : blocks) {
      const auto it = where_.find(block);
      unbroken = unbroken && it != where_.end();
      held += unbroken;
      if (it != where_.end()) {
        order_.splice(order_.begin(), order_, it->second);
        continue;
      }
      order_.push_front(block);
      where_[block] = order_.begin();
      if (where_.size() > capacity_) {
        where_.erase(order_.back());
        order_.pop_back();
      }
    }
    return held;
  }

 private:
  const size_t capacity_;
  std::list<uint64_t> order_;
  std::unordered_map<uint64_t, std::list<uint64_t>::iterator> where_;
};

struct Worker {
  explicit Worker(size_t cache) : cache(cache) {}
  Cache cache;
  double free_at = 0;  // of its prefill
  double busy = 0;
};

struct Conversation {
  std::vector<uint64_t> blocks;
  uint32_t turns_left = 0;
};

class Run {
 public:
  Run(PolicyKind policy, const SimulationOptions& options)
      : options_(options),
        policy_(policy),
        random_(options.seed),
        index_({.max_bytes = options.index_bytes}) {
    for (uint32_t i = 0; i < options.workers; ++i) {
      workers_.emplace_back(options.cache_blocks);
      views_.push_back({i, i + 1, Hash64("worker-" + std::to_string(i)), 0, 0});
    }
    conversations_.resize(options.conversations);
  }

  SimulationResult Go() {
    const double mean_blocks = options_.system_blocks + options_.turn_blocks * (options_.turns + 1) / 2.0;
    const double rate = options_.utilisation * options_.workers * options_.blocks_per_second / mean_blocks;
    std::vector<double> ttfts;
    ttfts.reserve(options_.requests);
    double now = 0;
    uint64_t blocks = 0, held = 0;
    for (uint32_t i = 0; i < options_.requests; ++i) {
      now += Exponential(1 / rate);
      for (; !begins_.empty() && begins_.top().at <= now; begins_.pop())
        views_[begins_.top().worker].prefill -= begins_.top().blocks;
      for (; !ends_.empty() && ends_.top().first <= now; ends_.pop()) --views_[ends_.top().second].load;
      const std::vector<uint64_t>& prompt = NextPrompt();
      const size_t chosen = Pick(prompt, i, now);
      result_.checksum = Mix64(result_.checksum, chosen);
      Worker& worker = workers_[chosen];
      const uint32_t hit = worker.cache.Use(prompt);
      const auto missing = static_cast<uint32_t>(prompt.size()) - hit;
      const double work = missing / options_.blocks_per_second;
      worker.free_at = std::max(worker.free_at, now) + work;
      worker.busy += work;
      blocks += prompt.size();
      held += hit;
      ttfts.push_back(worker.free_at - now);
      ++views_[chosen].load;
      views_[chosen].prefill += expected_;
      begins_.push({worker.free_at, chosen, expected_});
      ends_.emplace(worker.free_at + Exponential(options_.decode_seconds), chosen);
    }
    result_.hit = static_cast<double>(held) / static_cast<double>(blocks);
    double total = 0, most = 0;
    for (const Worker& worker : workers_) {
      total += worker.busy;
      most = std::max(most, worker.busy);
    }
    result_.imbalance = most / (total / options_.workers);
    for (const double ttft : ttfts) result_.ttft_mean += ttft / options_.requests;
    std::ranges::sort(ttfts);
    result_.ttft_p50 = ttfts[ttfts.size() / 2];
    result_.ttft_p99 = ttfts[ttfts.size() * 99 / 100];
    return result_;
  }

 private:
  double Exponential(double mean) {
    return -mean * std::log1p(-static_cast<double>(random_() >> 11) * 0x1.0p-53);
  }

  const std::vector<uint64_t>& NextPrompt() {
    Conversation& talk = conversations_[random_() % conversations_.size()];
    if (talk.turns_left == 0) {  // a new one, with a system prompt that is popular more often than not
      const auto system =
          static_cast<uint64_t>(Exponential(options_.system_prompts / 4.0)) % options_.system_prompts;
      talk.blocks.clear();
      uint64_t state = system + 1;
      for (uint32_t i = 0; i < options_.system_blocks; ++i) talk.blocks.push_back(state = Mix64(state, i));
      talk.turns_left = 1 + static_cast<uint32_t>(random_() % (2 * options_.turns - 1));
    }
    --talk.turns_left;
    const uint64_t more = 1 + random_() % (2 * options_.turn_blocks - 1);
    for (uint64_t i = 0; i < more; ++i) talk.blocks.push_back(Mix64(talk.blocks.back(), random_()));
    return talk.blocks;
  }

  size_t Pick(std::span<const uint64_t> prompt, uint32_t turn, double now) {
    switch (policy_) {
      case PolicyKind::kRoundRobin:
        return PickRoundRobin(views_, turn);
      case PolicyKind::kRandom:
        return PickRandom(views_, random_());
      case PolicyKind::kLeastLoad:
        return PickLeastLoad(views_, random_());
      case PolicyKind::kPowerOfTwo:
        return PickPowerOfTwo(views_, random_());
      case PolicyKind::kConsistentHash:
        return PickConsistentHash(views_,
                                  prompt[std::min<size_t>(prompt.size(), options_.system_blocks + 1) - 1]);
      case PolicyKind::kPrefixAware: {
        const TimePoint at{std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(now))};
        const PrefixPick pick = PickPrefixAware(prompt, views_, index_.Match(prompt, at), random_());
        index_.Sent(prompt, views_[pick.chosen].slot, at);
        expected_ = static_cast<uint32_t>(prompt.size()) - pick.matched;
        return pick.chosen;
      }
    }
    return 0;
  }

  using End = std::pair<double, size_t>;
  // Of an answer: what was counted for its prompt, counts no longer.
  struct Begin {
    double at;
    size_t worker;
    uint32_t blocks;
    bool operator>(const Begin& other) const { return at > other.at; }
  };
  const SimulationOptions options_;
  const PolicyKind policy_;
  std::mt19937_64 random_;
  PrefixIndex index_;
  std::vector<Worker> workers_;
  std::vector<WorkerView> views_;
  std::vector<Conversation> conversations_;
  std::priority_queue<End, std::vector<End>, std::greater<>> ends_;
  std::priority_queue<Begin, std::vector<Begin>, std::greater<>> begins_;
  uint32_t expected_ = 0;  // blocks to prefill, as the policy knows them
  SimulationResult result_;
};

}  // namespace

SimulationResult Simulate(PolicyKind policy, const SimulationOptions& options) {
  return Run(policy, options).Go();
}

}  // namespace cyllm
