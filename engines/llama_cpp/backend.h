// llama.cpp as a whole: its version, its compute backends, its log.
#pragma once

#include <string>

#include "sdk/engine.h"

namespace cyllm::llama {

// Where llama.cpp's messages go; may be null. Not thread-safe against a running model: once, at the start.
void SetLog(const cyllm_host* host);

// Loads the backends that lie in `folder` (empty: beside this code) and chooses those that suit this machine;
// once per process, thread-safe. False and `error` when the library is not of the release that this plugin
// was compiled for, or has no backend for the CPU.
bool LoadBackends(const std::string& folder, std::string* error);

// "llama.cpp 0.5.0-dev"
const char* LibraryVersion();

}  // namespace cyllm::llama
