#include "llama_cpp/options.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <fstream>
#include <set>
#include <string>

namespace cyllm::llama {

namespace {

namespace json = boost::json;

constexpr uint32_t kGranule = 256;        // llama.cpp pads a sequence's room to this
constexpr uint32_t kSequenceLimit = 256;  // LLAMA_MAX_SEQ

bool ReadNumber(const json::object& in, const char* key, int64_t min, int64_t max, uint32_t* out,
                std::string* error) {
  const json::value* v = in.if_contains(key);
  if (!v || v->is_null()) return true;
  const bool whole = v->is_int64() || (v->is_uint64() && v->as_uint64() <= INT64_MAX);
  if (!whole || v->to_number<int64_t>() < min || v->to_number<int64_t>() > max) {
    *error = std::string("'") + key + "' must be a whole number from " + std::to_string(min) + " to " +
             std::to_string(max);
    return false;
  }
  *out = v->to_number<uint32_t>();
  return true;
}

bool ReadText(const json::object& in, const char* key, std::string* out, std::string* error) {
  const json::value* v = in.if_contains(key);
  if (!v || v->is_null()) return true;
  if (!v->is_string()) {
    *error = std::string("'") + key + "' must be a string";
    return false;
  }
  *out = std::string(v->as_string());
  return true;
}

bool ReadFlag(const json::object& in, const char* key, bool* out, std::string* error) {
  const json::value* v = in.if_contains(key);
  if (!v || v->is_null()) return true;
  if (!v->is_bool()) {
    *error = std::string("'") + key + "' must be true or false";
    return false;
  }
  *out = v->as_bool();
  return true;
}

// Several by name; and the contract's one, which vLLM calls so too.
bool ReadAdapters(const json::object& in, std::map<std::string, std::string>* out, std::string* error) {
  std::string one;
  if (!ReadText(in, "adapter_path", &one, error)) return false;
  if (!one.empty()) out->emplace("adapter", one);
  const json::value* named = in.if_contains("adapters");
  if (!named || named->is_null()) return true;
  const json::object empty, *list = named->if_object();
  for (const auto& [name, path] : list ? *list : empty) {
    if (name.empty() || !path.is_string() || path.get_string().empty()) list = nullptr;
    if (!list) break;
    if (out->emplace(name, path.get_string()).second) continue;
    *error = "'adapters' and 'adapter_path' both name an adapter '" + std::string(name) + "'";
    return false;
  }
  if (!list) *error = "'adapters' must be an object: name -> path of a GGUF file";
  return list != nullptr;
}

bool ReadModel(const json::object& model, Options* out, std::string* error) {
  uint32_t layers = 0;
  std::string speculation = "ngram";
  auto itl = static_cast<uint32_t>(out->target_itl_ms);
  const json::value* gpu = model.if_contains("n_gpu_layers");
  if (!ReadText(model, "path", &out->model_path, error) ||
      !ReadText(model, "chat_template", &out->chat_template, error) ||
      !ReadText(model, "kv_cache_dtype", &out->kv_cache_dtype, error) ||
      !ReadNumber(model, "max_model_len", 1, 1 << 24, &out->max_model_len, error) ||
      !ReadNumber(model, "max_num_seqs", 1, kSequenceLimit, &out->max_num_seqs, error) ||
      !ReadNumber(model, "max_waiting", 0, 1 << 20, &out->max_waiting, error) ||
      !ReadNumber(model, "prefill_chunk", 1, 8192, &out->prefill_chunk, error) ||
      !ReadNumber(model, "target_itl_ms", 1, 60000, &itl, error) ||
      !ReadFlag(model, "enable_prefix_caching", &out->prefix_caching, error) ||
      !ReadFlag(model, "prefill_lane", &out->prefill_lane, error) ||
      !ReadText(model, "speculation", &speculation, error) ||
      !ReadNumber(model, "kv_cache_mib", 1, 1 << 24, &out->kv_cache_mib, error) ||
      !ReadNumber(model, "n_gpu_layers", 0, 10000, &layers, error) ||
      !ReadAdapters(model, &out->adapters, error))
    return false;
  out->target_itl_ms = itl;
  if (gpu && !gpu->is_null()) out->n_gpu_layers = static_cast<int32_t>(layers);
  if (out->kv_cache_dtype.empty() || out->kv_cache_dtype == "auto") out->kv_cache_dtype = "f16";
  if (out->kv_cache_dtype != "f16" && out->kv_cache_dtype != "bf16" && out->kv_cache_dtype != "q8_0") {
    *error = "'kv_cache_dtype' must be auto, f16, bf16 or q8_0";
    return false;
  }
  if (speculation != "ngram" && speculation != "off") {
    *error = "'speculation' must be ngram or off";
    return false;
  }
  out->speculation = speculation == "ngram";
  return true;
}

// CPUs that the cgroup's quota is worth; 0: no quota.
uint32_t CgroupCpus() {
  std::ifstream in("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (!(in >> quota >> period) || period <= 0) return 0;  // "max ..." fails to read
  return std::max(1u, static_cast<uint32_t>(quota / period));
}

}  // namespace

std::optional<Options> ParseOptions(std::string_view config_json, std::string* error) {
  boost::system::error_code failed;
  const json::value root = json::parse(json::string_view(config_json.data(), config_json.size()), failed);
  if (failed || !root.is_object()) {
    *error = "the configuration is not a JSON object";
    return std::nullopt;
  }
  Options options;
  if (!ReadNumber(root.as_object(), "threads", 0, 512, &options.threads, error)) return std::nullopt;
  const json::value* model = root.as_object().if_contains("model");
  if (!model || !model->is_object()) {
    *error = "'model' is missing";
    return std::nullopt;
  }
  if (!ReadModel(model->as_object(), &options, error)) return std::nullopt;
  if (options.model_path.empty()) {
    *error = "the model has no file: llama_cpp needs one ('path')";
    return std::nullopt;
  }
  return options;
}

uint32_t CpuBudget() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 1;
  std::set<std::string> cores;  // siblings of one core share their list
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    std::ifstream in("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    std::string siblings;
    if (!(in >> siblings)) siblings = "cpu" + std::to_string(cpu);
    cores.insert(siblings);
  }
  uint32_t n = std::max<uint32_t>(1, static_cast<uint32_t>(cores.size()));
  if (const uint32_t quota = CgroupCpus()) n = std::min(n, quota);
  return n;
}

uint32_t ThreadsOf(const Options& options) { return options.threads > 0 ? options.threads : CpuBudget(); }

uint64_t DefaultKvBytes() {
  const uint64_t memory = static_cast<uint64_t>(std::max(0L, sysconf(_SC_PHYS_PAGES))) *
                          static_cast<uint64_t>(std::max(0L, sysconf(_SC_PAGESIZE)));
  return std::min<uint64_t>(memory / 8, uint64_t{1} << 30);
}

KvPlan PlanKv(const Options& options, uint32_t model_context, uint64_t bytes_per_token, uint64_t budget) {
  const uint64_t cells = std::max<uint64_t>(kGranule, budget / std::max<uint64_t>(1, bytes_per_token));
  const auto spare_for = [&](uint64_t sequences) -> uint64_t {
    if (!options.prefix_caching || sequences >= kSequenceLimit) return 0;
    return std::min<uint64_t>((sequences + 3) / 4, kSequenceLimit - sequences);
  };
  const auto seats_for = [&](uint64_t sequences) -> uint64_t {
    if (!options.prefill_lane || sequences < 2) return 0;
    return sequences < 4 ? 1 : std::clamp<uint64_t>(sequences / 8, 2, 4);
  };
  const auto length_for = [&](uint64_t sequences) {
    const uint64_t all = sequences + spare_for(sequences) + seats_for(sequences);
    const uint64_t fit = cells / all / kGranule * kGranule;
    return static_cast<uint32_t>(std::min<uint64_t>(fit, model_context));
  };
  KvPlan plan{options.max_model_len, options.max_num_seqs};
  if (plan.max_model_len > 0) {
    plan.max_model_len = std::min(plan.max_model_len, model_context);
    const uint64_t fit = cells / ((plan.max_model_len + kGranule - 1) / kGranule * kGranule);
    if (plan.max_num_seqs == 0)
      plan.max_num_seqs = static_cast<uint32_t>(std::clamp<uint64_t>(fit, 1, kDefaultSequences));
    uint64_t left = fit - std::min<uint64_t>(fit, plan.max_num_seqs);
    plan.seats = static_cast<uint32_t>(std::min(seats_for(plan.max_num_seqs), left));
    left -= plan.seats;
    plan.spare = static_cast<uint32_t>(std::min(spare_for(plan.max_num_seqs), left));
    return plan;
  }
  if (plan.max_num_seqs == 0) {
    // Rather fewer sequences than ones too short to be of use.
    const uint32_t useful = std::min<uint32_t>(model_context, 2048);
    plan.max_num_seqs = kDefaultSequences;
    while (plan.max_num_seqs > 1 && length_for(plan.max_num_seqs) < useful) plan.max_num_seqs /= 2;
  }
  plan.max_model_len = std::max(length_for(plan.max_num_seqs), std::min(kGranule, model_context));
  if (length_for(plan.max_num_seqs) > 0) {
    plan.spare = static_cast<uint32_t>(spare_for(plan.max_num_seqs));
    plan.seats = static_cast<uint32_t>(seats_for(plan.max_num_seqs));
  }
  return plan;
}

}  // namespace cyllm::llama
