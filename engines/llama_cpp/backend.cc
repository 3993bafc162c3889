#include "llama_cpp/backend.h"

#include <dlfcn.h>
#include <ggml-backend.h>
#include <llama.h>

#include <filesystem>
#include <mutex>
#include <string_view>

#include "sdk/engine.hpp"

namespace cyllm::llama {

namespace {

void OnLog(ggml_log_level level, const char* text, void* user) {
  const auto* host = static_cast<const cyllm_host*>(user);
  if (!host || !host->log || level < GGML_LOG_LEVEL_WARN || level > GGML_LOG_LEVEL_ERROR) return;
  std::string_view message(text);
  while (!message.empty() && message.back() == '\n') message.remove_suffix(1);
  if (!message.empty())
    host->log(host->ctx, level == GGML_LOG_LEVEL_WARN ? CYLLM_LOG_WARN : CYLLM_LOG_ERROR, sdk::Str(message));
}

std::string OwnFolder() {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<void*>(&OwnFolder), &info) || !info.dli_fname) return ".";
  return std::filesystem::path(info.dli_fname).parent_path().string();
}

// A build from the release's source calls itself "0.5.0-dev".
bool SuitsHeaders(std::string_view version) {
  const std::string_view headers = CY_LLAMA_VERSION;
  return version == headers || version == std::string(headers) + "-dev";
}

}  // namespace

void SetLog(const cyllm_host* host) { llama_log_set(OnLog, const_cast<cyllm_host*>(host)); }

bool LoadBackends(const std::string& folder, std::string* error) {
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  if (!SuitsHeaders(llama_version())) {
    *error = std::string("the llama.cpp library found is ") + llama_version() +
             ", this plugin was compiled for " CY_LLAMA_VERSION;
    return false;
  }
  llama_backend_init();
  if (!ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)) {  // else: linked into the library
    const std::string from = folder.empty() ? OwnFolder() : folder;
    ggml_backend_load_all_from_path(from.c_str());
    if (!ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)) {
      *error = "no ggml backend for this CPU in " + from;
      return false;
    }
  }
  return true;
}

const char* LibraryVersion() {
  static const std::string version = std::string("llama.cpp ") + llama_version();
  return version.c_str();
}

}  // namespace cyllm::llama
