// A fleet in a model of time, to compare policies in numbers: conversations with shared system prompts
// arrive, workers prefill what their caches do not hold, one prompt at a time, then decode. Deterministic: a
// seed, no clock, no thread.
#pragma once

#include <cstdint>

#include "coordinator/routing/policies.h"

namespace cyllm {

struct SimulationOptions {
  uint32_t workers = 64;
  uint32_t requests = 20'000;
  uint32_t conversations = 2'000;  // open at a time; each goes on for some turns
  uint32_t system_prompts = 20;    // shared by conversations, the popular ones by many
  uint32_t system_blocks = 32;     // of each
  uint32_t turn_blocks = 8;        // that a turn adds, on average
  uint32_t turns = 6;              // per conversation, on average
  uint32_t cache_blocks = 4'096;   // of a worker
  double blocks_per_second = 200;  // prefill of a worker
  double decode_seconds = 2;       // of a request, on average
  double utilisation = 0.7;        // of all prefill, if nothing were cached
  size_t index_bytes = 48u << 20;  // of the router's PrefixIndex
  uint64_t seed = 1;
};

struct SimulationResult {
  double hit = 0;        // share of prompt blocks that were in the worker's cache
  double ttft_mean = 0;  // seconds
  double ttft_p50 = 0, ttft_p99 = 0;
  double imbalance = 0;   // busiest worker's prefill over the mean
  uint64_t checksum = 0;  // of all choices: equal for equal seeds
};

SimulationResult Simulate(PolicyKind policy, const SimulationOptions& options);

}  // namespace cyllm
