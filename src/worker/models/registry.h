// Which models this worker serves: the contract's models.json, or one model when there is none.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "worker/models/engine_facts.h"

namespace cyllm {

struct ModelEntry {
  std::string id;
  std::string source;  // for models/resolver.h; empty: the engine needs no model file
  std::string engine;
  std::string options_json;                // object: the entry's keys, as the engine gets them
  std::vector<std::string> adapters = {};  // names that they give to LoRA adapters; sorted
  Millis idle_unload{0};                   // unused for so long, it is unloaded; 0: never
  uint64_t memory_bytes = 0;               // that it is expected to take; 0: not said
  bool isolated = false;                   // in a process of its own
};

// What the model will take: as the registry says, else the size of its file; 0: not known.
uint64_t ExpectedBytes(const ModelEntry& entry);

struct Registry {
  std::vector<ModelEntry> models;     // in file order, ids unique, at least one
  std::string default_id;             // what `default` means
  std::vector<std::string> warnings;  // about keys that are known and not used

  const ModelEntry* Find(const std::string& id) const;  // by id, or `default`
};

struct RegistryOptions {
  std::string text;            // JSON; empty: see `path`
  std::string path;            // file; empty: no registry
  std::string default_model;   // a registry id; without a registry a source
  std::string default_engine;  // for entries that name none; empty: llama_cpp
};

// INVALID_ARGUMENT naming where (file or variable), which entry and key, and what is allowed.
Result<Registry> ReadRegistry(const RegistryOptions& options, std::span<const EngineFacts> engines);

}  // namespace cyllm
