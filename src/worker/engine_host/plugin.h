// Engine plugins on disk: what their manifests say, and loading one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "sdk/engine.h"

namespace cyllm {

struct Manifest {
  std::string name;
  std::string version;               // of the plugin; empty: not said
  std::vector<std::string> devices;  // cpu, cuda...: one of them must be here; empty: not said
  std::string library;               // path
  std::string description;
  uint32_t abi_major = 0, abi_minor = 0;
  uint32_t capabilities = 0;         // Capability bits that it may have
  bool needs_model_file = true;      // a registry entry must name a model
  std::string default_model;         // id to serve when nothing is configured
  std::string default_source;        // model source that goes with it
  std::vector<std::string> options;  // keys of a registry entry that it reads
};

// "chat", "text"...
std::vector<std::string> CapabilityNames(uint32_t capabilities);

// FAILED_PRECONDITION with path and key where it is not there or wrong.
Result<Manifest> ReadManifest(const std::string& path);

// The manifests of all plugins in folders of `engine_dir`, sorted by name; loads none of them. Fails when the
// folder cannot be read, or a manifest is wrong (with its path and key).
Result<std::vector<Manifest>> ReadManifests(const std::string& engine_dir);

// dlopen, once per library and process, never closed. FAILED_PRECONDITION when versions do not suit.
// Thread-safe.
Result<const cyllm_engine_api*> LoadPlugin(const Manifest& manifest);

}  // namespace cyllm
