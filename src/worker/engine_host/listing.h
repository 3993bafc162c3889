// All plugins of a folder, those that cannot run here too, with the reason. Loads none of them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "worker/engine_host/plugin.h"

namespace cyllm {

struct EngineListing {
  Manifest manifest;                 // of a wrong one: the folder's name only
  std::vector<std::string> why_not;  // sentences; empty: nothing stands against it
};

// Sorted by name. Fails only where the folder cannot be read.
Result<std::vector<EngineListing>> ListEngines(const std::string& engine_dir);

// Whether one of the devices is here; those that we do not know may be. `exists` tells whether a path is
// there.
bool HasDevice(const std::vector<std::string>& devices,
               const std::function<bool(const std::string&)>& exists);

}  // namespace cyllm
