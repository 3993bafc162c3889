// How a model server is started: its command line from the contract's options. Pure.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "upstream/openai/profile.h"
#include "upstream/process/child.h"

namespace cyllm::upstream {

struct LaunchRequest {
  std::string model;         // path or name, as the server takes it
  std::string served;        // the name it shall serve it by
  std::string options_json;  // object of option names; see LaunchOptions
  std::string socket;        // where it shall listen, if it can
  int port = 0;              // else here, on 127.0.0.1
  Millis stop_grace{10'000};
};

struct Launch {
  ChildSpec child;
  std::string url;
  std::string socket;  // empty: TCP
};

// Names of options that a server's entry may have when we start it: the contract's (tensor_parallel_size,
// gpu_memory_utilization, max_model_len, quantization, use_4bit, enable_prefix_caching, kv_cache_dtype...),
// and for all servers `command` (a text or a list: the program, in place of its usual one), `args` (a list,
// passed on as it is) and `env` (an object). Empty: this server is not started by us.
std::vector<std::string> LaunchOptions(const Profile& profile);

// `env` gives the contract's variables (VLLM_TENSOR_PARALLEL_SIZE...), which stand in for options that the
// entry does not have. INVALID_ARGUMENT naming the option and what it must be.
Result<Launch> MakeLaunch(const Profile& profile, const LaunchRequest& request,
                          const std::function<std::optional<std::string>(const std::string&)>& env);

// The program that a profile's server is started with; empty: we start none.
std::string ProgramOf(const Profile& profile);

}  // namespace cyllm::upstream
