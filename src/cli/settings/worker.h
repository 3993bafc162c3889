// Settings of the worker, alone (`cy-llm worker`) and in the all-in-one (`cy-llm serve`).
#pragma once

#include <string>
#include <vector>

#include "base/config.h"
#include "cli/settings/process.h"

namespace cyllm {

// Which models, on which engines.
struct ModelSettings {
  std::string registry_path;
  std::string registry_json;
  std::string model;
  std::string engine;
  std::string engine_dir;   // empty: `engines` beside the binary
  std::string model_cache;  // empty: ${XDG_CACHE_HOME:-~/.cache}/cy-llm/models
  int64_t threads = 0;
  int64_t max_prompt_chars = 50'000;
  bool preload = false;
  int64_t memory_budget_mib = 0;
  int64_t min_residency_s = 30;
  int64_t reloads_per_minute = 6;
  int64_t engine_stall_s = 60;

  void Declare(Settings& settings);
};

struct WorkerSettings {
  ProcessSettings process;
  ModelSettings models;
  std::string host = "127.0.0.1";
  int64_t port = -1;
  std::string uds_path;
  int64_t health_port = 9090;
  std::string name;
  std::vector<std::string> coordinators;
  std::string environment = "development";
  bool allow_insecure_grpc = false;

  void Declare(Settings& settings);

  std::vector<std::string> Listen() const;  // canonical addresses of the gRPC listeners
  bool production() const;
  Status Check() const;
};

}  // namespace cyllm
