// The library before there is an engine: its manifest, its table, its versions.
#include <deque>
#include <filesystem>

#include "worker/engine_check/checks.h"
#include "worker/engine_check/host.h"
#include "worker/engine_check/lent.h"
#include "worker/engine_host/plugin.h"

namespace cyllm::engine_check {

namespace {

void TableIsComplete(const Subject& s, const Report& wrong) {
  const cyllm_engine_api& api = *s.api;
  if (api.size < sizeof api) return wrong("the table is too small");
  if (api.abi_major != CYLLM_ENGINE_ABI_MAJOR || api.abi_minor > CYLLM_ENGINE_ABI_MINOR)
    wrong("the table's ABI version does not suit");
  if (!api.name || !*api.name) wrong("no name");
  if (!api.version) wrong("no version");
  if (!api.create || !api.describe || !api.submit || !api.cancel || !api.credit || !api.stats || !api.drain ||
      !api.destroy)
    wrong("a function is missing");
}

// A host's table is valid until the process ends.
const cyllm_host* Lend(uint32_t major, uint32_t minor, size_t size) {
  static std::deque<LentStruct<cyllm_host>> kept;
  return kept.emplace_back(MakeHost(major, minor), size).get();
}

void OtherVersionsAreRefused(const Subject& s, const Report& wrong) {
  for (const uint32_t major : {0u, CYLLM_ENGINE_ABI_MAJOR + 1u, UINT32_MAX}) {
    if (s.entry(Lend(major, CYLLM_ENGINE_ABI_MINOR, sizeof(cyllm_host))))
      wrong("takes a host of ABI " + std::to_string(major) + ".x");
  }
}

void NewerHostsAreTaken(const Subject& s, const Report& wrong) {
  const cyllm_engine_api* api =
      s.entry(Lend(CYLLM_ENGINE_ABI_MAJOR, CYLLM_ENGINE_ABI_MINOR + 7, sizeof(cyllm_host) + 64));
  if (!api) return wrong("refuses a host with a newer minor version");
  if (api->abi_major != CYLLM_ENGINE_ABI_MAJOR) wrong("another major version than the host's");
}

void ManifestAgrees(const Subject& s, const Report& wrong) {
  const std::filesystem::path path = std::filesystem::path(s.library).parent_path() / "manifest.json";
  const auto manifest = ReadManifest(path.string());
  if (!manifest) return wrong(manifest.error().message);
  if (std::filesystem::path(manifest->library).filename() != std::filesystem::path(s.library).filename())
    wrong("the manifest names another library: " + manifest->library);
  if (s.api->name && manifest->name != s.api->name)
    wrong("its name is '" + manifest->name + "' in the manifest and '" + s.api->name + "' in the table");
  if (manifest->abi_major != s.api->abi_major || manifest->abi_minor != s.api->abi_minor)
    wrong("manifest and table have different ABI versions");
  const cyllm_callbacks deaf = {sizeof deaf, nullptr, [](void*, const cyllm_event*, size_t) {}};
  cyllm_error error{};
  error.size = sizeof error;
  cyllm_engine* engine = s.api->create({s.config.data(), s.config.size()}, &deaf, nullptr, nullptr, &error);
  if (!engine) return wrong(std::string("create failed: ") + error.message);
  cyllm_description d{};
  d.size = sizeof d;
  s.api->describe(engine, &d);
  if (d.capabilities & ~uint64_t{manifest->capabilities})
    wrong("it has capabilities that its manifest does not name");
  s.api->destroy(engine);
}

}  // namespace

std::vector<Check> EntryChecks() {
  return {
      {"the table is complete", TableIsComplete},
      {"the manifest says the same as the table", ManifestAgrees},
      {"other ABI versions are refused", OtherVersionsAreRefused},
      {"newer hosts are taken", NewerHostsAreTaken},
  };
}

}  // namespace cyllm::engine_check
