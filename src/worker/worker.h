// A worker: the models of one machine as an InferenceService. Owns the model registry and the engines; loads
// an engine on a model's first use and reports loading as Progress events.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "async/io_pool.h"
#include "base/status.h"
#include "inference/grpc_server.h"
#include "inference/service.h"
#include "worker/engine_host/stall_watch.h"
#include "worker/residency.h"

namespace cyllm {

struct WorkerOptions {
  std::string name;           // of this process in the fleet; Accepted.worker
  std::string engine_dir;     // folder of plugin folders, each with a manifest.json
  std::string registry_json;  // CY_LLM_MODEL_REGISTRY: the text itself; empty: unset
  std::string registry_path;  // CY_LLM_MODEL_REGISTRY_PATH; empty: unset
  std::string
      default_model;  // CY_LLM_DEFAULT_MODEL: a registry id, or a model source when there is no registry
  std::string default_engine;     // CY_LLM_ENGINE, CY_LLM_BACKEND; empty: llama_cpp
  std::string model_cache;        // where fetched models lie
  uint32_t threads = 0;           // compute threads; 0: chosen by the engine from the number of cores
  uint32_t max_prompt_chars = 0;  // of old peers' prompts; 0: contract's 50 000
  ResidencyOptions residency;     // which models may be in memory together
  StallLimits stall;              // when an engine is held to hang
  bool preload = false;           // load the default model at start instead of on first use
};

class Worker : public InferenceService, public ControlHandler {
 public:
  // Reads the registry and the manifests; loads nothing. Fails with file, key and what is allowed.
  static Result<std::shared_ptr<Worker>> Make(WorkerOptions options);
  ~Worker() override;

  EventStream Infer(Request request, Context context) override;
  Snapshot Describe() const override;
  PrefixChanges PrefixesSince(uint64_t& cursor) const override;

  // ControlHandler: ping, list_models, unload_model (payload model_id); the contract's Health metrics.
  ControlReply Control(const std::string& command,
                       const std::map<std::string, std::string>& payload) override;
  HealthReply Health() override;

  // Starts loading a model in the background (no-op when loaded). Unknown ids: NOT_FOUND.
  Status Preload(const std::string& model);

  // Refuses new requests, lets running ones end until `until`, then cancels; blocks. Then the engines are
  // destroyed.
  void Drain(TimePoint until);
  Millis close_grace() const;  // what Drain may take beyond `until`; more, and an engine hangs

 private:
  struct Impl;
  explicit Worker(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cyllm
