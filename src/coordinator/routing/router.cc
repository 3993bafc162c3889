#include "coordinator/routing/router.h"

#include <random>

#include "inference/prefix_hash.h"

namespace cyllm {

Status ParsePolicies(const std::string& text, RouterOptions* out) {
  size_t from = 0;
  while (from <= text.size()) {
    const size_t comma = std::min(text.find(',', from), text.size());
    const std::string entry = text.substr(from, comma - from);
    const size_t equals = entry.rfind('=');
    const std::string name = equals == std::string::npos ? entry : entry.substr(equals + 1);
    const auto policy = PolicyOf(name);
    if (!policy || equals == 0)
      return InvalidArgument("'" + entry +
                             "' is none of round_robin, random, least_load, power_of_two, consistent_hash, "
                             "prefix_aware, or MODEL=one of them");
    if (equals == std::string::npos) {
      out->policy = *policy;
    } else {
      out->per_model[entry.substr(0, equals)] = *policy;
    }
    from = comma + 1;
  }
  return Status::Ok();
}

Router::Router(RouterOptions options)
    : options_(std::move(options)),
      seed_(options_.seed ? options_.seed
                          : std::random_device{}() + (uint64_t{std::random_device{}()} << 32)),
      index_({.max_bytes = options_.prefix_index_bytes}) {
  for (size_t i = 0; i < kPolicies; ++i) {
    metrics_.picks[i] = &Counter("coordinator_picks_total", "Workers chosen, by policy",
                                 {{"policy", NameOf(static_cast<PolicyKind>(i))}});
  }
}

PolicyKind Router::PolicyFor(const std::string& model) const {
  if (options_.per_model.empty()) return options_.policy;
  const auto it = options_.per_model.find(model);
  return it == options_.per_model.end() ? options_.policy : it->second;
}

void Router::Report(uint32_t slot, const PrefixChanges& changes) {
  index_.Dropped(changes.dropped, slot);
  index_.Sent(changes.held, slot, Clock::now());
}

Decision Router::Pick(const RequestFacts& facts, std::span<const WorkerView> workers, uint64_t turn) {
  const uint64_t random = Mix64(seed_, turn);
  const PolicyKind kind = PolicyFor(facts.model);
  metrics_.picks[static_cast<size_t>(kind)]->Increment();
  Decision decision{0, NameOf(kind), 0};
  switch (kind) {
    case PolicyKind::kRoundRobin:
      decision.chosen = PickRoundRobin(workers, turn);
      break;
    case PolicyKind::kRandom:
      decision.chosen = PickRandom(workers, random);
      break;
    case PolicyKind::kLeastLoad:
      decision.chosen = PickLeastLoad(workers, random);
      break;
    case PolicyKind::kPowerOfTwo:
      decision.chosen = PickPowerOfTwo(workers, random);
      break;
    case PolicyKind::kConsistentHash:
      // Without a key there is nobody to stay with.
      decision.chosen =
          facts.affinity ? PickConsistentHash(workers, facts.affinity) : PickPowerOfTwo(workers, random);
      break;
    case PolicyKind::kPrefixAware: {
      if (!choosing_.load(std::memory_order_relaxed)) {
        if (workers.size() == 1) break;
        choosing_.store(true, std::memory_order_relaxed);
      }
      const TimePoint now = Clock::now();
      const auto& blocks = facts.prefix_hashes;
      const PrefixPick pick = PickPrefixAware(blocks, workers, index_.Match(blocks, now), random);
      index_.Sent(blocks, workers[pick.chosen].slot, now);
      decision.chosen = pick.chosen;
      metrics_.blocks.Increment(static_cast<double>(blocks.size()));
      metrics_.hit.Increment(pick.matched);
      decision.prefill = static_cast<uint32_t>(blocks.size()) - pick.matched;
      if (!blocks.empty())
        decision.prefix_hit = static_cast<float>(pick.matched) / static_cast<float>(blocks.size());
      break;
    }
  }
  return decision;
}

}  // namespace cyllm
