// Routing policies: pure functions of the request's facts and the candidates, of which there is at least one.
// Each returns an index into the candidates. Random numbers and turns are passed in.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "coordinator/routing/prefix_index.h"
#include "inference/fleet.h"

namespace cyllm {

enum class PolicyKind : uint8_t {
  kRoundRobin,
  kRandom,
  kLeastLoad,
  kPowerOfTwo,
  kConsistentHash,
  kPrefixAware,
};
inline constexpr size_t kPolicies = 6;
// "round_robin" etc.; static text.
const char* NameOf(PolicyKind kind);
std::optional<PolicyKind> PolicyOf(std::string_view name);

size_t PickRoundRobin(std::span<const WorkerView> workers, uint64_t turn);
size_t PickRandom(std::span<const WorkerView> workers, uint64_t random);
// The least loaded; among equals by `random`.
size_t PickLeastLoad(std::span<const WorkerView> workers, uint64_t random);
// The less loaded of two that chance picks.
size_t PickPowerOfTwo(std::span<const WorkerView> workers, uint64_t random);
// Rendezvous hashing with bounded loads: the worker that ranks first for `key` and has at most a quarter more
// than its share of the load; the key's next one otherwise. Replicas rank alike.
size_t PickConsistentHash(std::span<const WorkerView> workers, uint64_t key);

// What prefix-aware routing weighs, in blocks of prompt; what is still to be prefilled before it, counts as
// it is.
struct PrefixWeights {
  double load = 4;   // what one request more on a worker costs the next one
  double floor = 2;  // matches of fewer blocks are chance (a common system prompt): not followed
};
struct PrefixPick {
  size_t chosen = 0;
  uint32_t matched = 0;  // blocks
};
// The worker with the least expected cost: blocks to prefill, before it and of it, plus what is running
// there; candidates are those that hold a beginning of the prompt and the one that consistent hashing names
// for its first four blocks. A prompt without blocks goes to the less loaded of two.
PrefixPick PickPrefixAware(std::span<const uint64_t> blocks, std::span<const WorkerView> workers,
                           std::span<const PrefixMatch> matches, uint64_t random,
                           const PrefixWeights& weights = {});

}  // namespace cyllm
