// What a registry entry and the host tell this engine.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace cyllm::llama {

struct Options {
  std::string model_path;
  std::string chat_template;  // Jinja; empty: the model's own
  std::string kv_cache_dtype = "f16";
  uint32_t threads = 0;        // 0: CpuBudget()
  uint32_t max_model_len = 0;  // tokens per sequence; 0: what fits kv_cache_mib, at most the model's own
  uint32_t max_num_seqs = 0;   // sequences decoded together; 0: kDefaultSequences, fewer when they do not fit
  uint32_t max_waiting = 256;  // requests that wait for a sequence; more are refused
  uint32_t prefill_chunk = 512;  // prompt tokens per step, at most
  double target_itl_ms = 100;    // inter-token latency that prompts leave to sequences which decode
  bool prefix_caching = true;
  bool speculation = true;    // prompt lookup
  bool prefill_lane = true;   // prompts on cores of their own while others decode
  uint32_t kv_cache_mib = 0;  // memory for the KV cache; 0: DefaultKvBytes()
  std::optional<int32_t> n_gpu_layers;
  std::map<std::string, std::string> adapters;  // files of LoRAs, by name
};

// From the config of cyllm_engine_api.create. On failure `error` says which key and what is allowed.
std::optional<Options> ParseOptions(std::string_view config_json, std::string* error);

// Physical cores that this process may use: affinity mask, SMT siblings and cgroup quota counted in. At
// least 1.
uint32_t CpuBudget();

// Compute threads: what the options say, else CpuBudget().
uint32_t ThreadsOf(const Options& options);

// An eighth of the machine's memory, at most 1 GiB: llama.cpp fills it at start.
uint64_t DefaultKvBytes();

constexpr uint32_t kDefaultSequences = 64;

// How the KV cache is cut: every sequence has its own room of max_model_len tokens.
struct KvPlan {
  uint32_t max_model_len;
  uint32_t max_num_seqs;
  uint32_t spare = 0;  // sequences that only keep prefixes
  uint32_t seats = 0;  // of the prompt lane
};

// Pure. What the options leave open is chosen so that the cache stays within `budget` bytes; what they say is
// obeyed, if need be beyond it.
KvPlan PlanKv(const Options& options, uint32_t model_context, uint64_t bytes_per_token, uint64_t budget);

}  // namespace cyllm::llama
