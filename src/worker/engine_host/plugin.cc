#include "worker/engine_host/plugin.h"

#include <dlfcn.h>

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "inference/request.h"
#include "sdk/engine.hpp"

namespace cyllm {

namespace json = boost::json;
namespace fs = std::filesystem;

namespace {

const std::pair<const char*, uint32_t> kCapabilities[] = {
    {"chat", kCapChat},
    {"text", kCapText},
    {"tokens", kCapTokens},
    {"embed", kCapEmbed},
    {"rerank", kCapRerank},
    {"tools", kCapTools},
    {"json_schema", kCapJsonSchema},
    {"logprobs", kCapLogprobs},
    {"vision", kCapVision},
    {"resume", kCapResume},
    {"lora", kCapLora},
    {"infill", kCapInfill},
    {"tokenize", kCapTokenize},
};

Result<Manifest> ParseManifest(const fs::path& path, const std::string& text) {
  const auto wrong = [&](const std::string& what) {
    return Err(MakeStatus(Code::kFailedPrecondition, path.string() + ": " + what));
  };
  try {
    const json::object root = json::parse(text).as_object();
    Manifest m;
    m.name = std::string(root.at("name").as_string());
    m.library = (path.parent_path() / std::string(root.at("library").as_string())).string();
    m.abi_major = root.at("abi").as_object().at("major").to_number<uint32_t>();
    m.abi_minor = root.at("abi").as_object().at("minor").to_number<uint32_t>();
    for (const json::value& v : root.at("capabilities").as_array()) {
      const auto* known = std::find_if(std::begin(kCapabilities), std::end(kCapabilities),
                                       [&](const auto& c) { return v.as_string() == c.first; });
      if (known != std::end(kCapabilities)) m.capabilities |= known->second;  // others: a newer plugin's
    }
    if (const auto* v = root.if_contains("description")) m.description = std::string(v->as_string());
    if (const auto* v = root.if_contains("version")) m.version = std::string(v->as_string());
    if (const auto* v = root.if_contains("devices"))
      for (const json::value& device : v->as_array()) m.devices.emplace_back(device.as_string());
    if (const auto* v = root.if_contains("needs_model_file")) m.needs_model_file = v->as_bool();
    if (const auto* v = root.if_contains("default_model")) m.default_model = std::string(v->as_string());
    if (const auto* v = root.if_contains("default_source")) m.default_source = std::string(v->as_string());
    if (const auto* v = root.if_contains("options"))
      for (const json::value& option : v->as_array()) m.options.emplace_back(option.as_string());
    if (m.name.empty() || fs::path(m.library).filename() != std::string(root.at("library").as_string()))
      return wrong("'name' must not be empty, 'library' must be a file name");
    return m;
  } catch (const std::exception& e) {
    return wrong(std::string("no engine manifest: ") + e.what());
  }
}

void HostLog(void*, int level, cyllm_str message) {
  static constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                          spdlog::level::warn, spdlog::level::err};
  Log()->log(kLevels[std::clamp(level, 0, 3)], "{}", sdk::View(message));
}

void HostGauge(void*, cyllm_str name, double value) {
  Gauge("worker_engine_" + std::string(sdk::View(name)), "Reported by the engine").Set(value);
}

uint64_t HostNow(void*) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count());
}

constexpr cyllm_host kHost = {
    sizeof(cyllm_host), CYLLM_ENGINE_ABI_MAJOR, CYLLM_ENGINE_ABI_MINOR, nullptr, HostLog, HostGauge, HostNow};

Result<const cyllm_engine_api*> Open(const Manifest& manifest) {
  const auto unsuitable = [&](const std::string& why) {
    return Err(MakeStatus(Code::kFailedPrecondition, "engine '" + manifest.name + "': " + why));
  };
  if (manifest.abi_major != CYLLM_ENGINE_ABI_MAJOR || manifest.abi_minor > CYLLM_ENGINE_ABI_MINOR) {
    return unsuitable("made for ABI " + std::to_string(manifest.abi_major) + "." +
                      std::to_string(manifest.abi_minor) + ", this program offers " +
                      std::to_string(CYLLM_ENGINE_ABI_MAJOR) + "." + std::to_string(CYLLM_ENGINE_ABI_MINOR));
  }
  void* library = dlopen(manifest.library.c_str(), RTLD_LOCAL | RTLD_NOW);
  if (!library) return unsuitable(dlerror());
  const auto entry = reinterpret_cast<cyllm_engine_entry_fn>(dlsym(library, "cyllm_engine_entry"));
  if (!entry) return unsuitable("has no cyllm_engine_entry");
  const cyllm_engine_api* api = entry(&kHost);
  if (!api) return unsuitable("refused this program's ABI version");
  if (api->abi_major != CYLLM_ENGINE_ABI_MAJOR || api->abi_minor > CYLLM_ENGINE_ABI_MINOR ||
      api->size < sizeof(cyllm_engine_api))
    return unsuitable("its library and its manifest are of different ABI versions");
  Log()->info("engine '{}' loaded: {} {}", manifest.name, api->name, api->version);
  return api;
}

}  // namespace

std::vector<std::string> CapabilityNames(uint32_t capabilities) {
  std::vector<std::string> names;
  for (const auto& [name, bit] : kCapabilities)
    if (capabilities & bit) names.emplace_back(name);
  return names;
}

Result<Manifest> ReadManifest(const std::string& path) {
  std::ifstream file(path);
  if (!file) return Err(MakeStatus(Code::kFailedPrecondition, path + ": cannot be read"));
  std::stringstream text;
  text << file.rdbuf();
  return ParseManifest(path, text.str());
}

Result<std::vector<Manifest>> ReadManifests(const std::string& engine_dir) {
  std::vector<Manifest> manifests;
  std::error_code ec;
  for (fs::directory_iterator it(engine_dir, ec), end; !ec && it != end; it.increment(ec)) {
    const fs::path path = it->path() / "manifest.json";
    if (std::error_code none; !fs::exists(path, none)) continue;
    Result<Manifest> manifest = ReadManifest(path.string());
    if (!manifest) return Err(manifest.error());
    manifests.push_back(std::move(*manifest));
  }
  if (ec)
    return Err(MakeStatus(Code::kFailedPrecondition, "engine folder " + engine_dir + ": " + ec.message()));
  std::sort(manifests.begin(), manifests.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return manifests;
}

Result<const cyllm_engine_api*> LoadPlugin(const Manifest& manifest) {
  static Mutex mutex;
  static std::map<std::string, const cyllm_engine_api*> loaded;
  MutexLock lock(mutex);
  if (const auto it = loaded.find(manifest.library); it != loaded.end()) return it->second;
  Result<const cyllm_engine_api*> api = Open(manifest);
  if (api) loaded.emplace(manifest.library, *api);
  return api;
}

}  // namespace cyllm
