// The coordinator's Picker: a policy per model, and what prefix-aware routing knows. Thread-safe.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "base/metrics.h"
#include "base/status.h"
#include "coordinator/routing/policies.h"

namespace cyllm {

struct RouterOptions {
  PolicyKind policy = PolicyKind::kPrefixAware;
  std::map<std::string, PolicyKind> per_model;
  size_t prefix_index_bytes = 48u << 20;
  uint64_t seed = 0;  // of chance; 0: another one in every process
};

// "least_load", or with models: "prefix_aware,my-model=round_robin". INVALID_ARGUMENT says what is wrong.
Status ParsePolicies(const std::string& text, RouterOptions* out);

class Router : public Picker {
 public:
  explicit Router(RouterOptions options);
  void Report(uint32_t slot, const PrefixChanges& changes) override;
  Decision Pick(const RequestFacts& facts, std::span<const WorkerView> candidates, uint64_t turn) override;

 private:
  PolicyKind PolicyFor(const std::string& model) const;

  const RouterOptions options_;
  const uint64_t seed_;
  PrefixIndex index_;
  std::atomic<bool> choosing_{false};  // there was a choice once: until then, the index is of no use
  struct {
    std::array<prometheus::Counter*, kPolicies> picks{};
    prometheus::Counter& blocks =
        Counter("coordinator_prefix_blocks_total", "Blocks of 256 bytes in the prompts that were routed");
    prometheus::Counter& hit = Counter("coordinator_prefix_hit_blocks_total",
                                       "Of these, those that the chosen worker had been sent");
  } metrics_;
};

}  // namespace cyllm
