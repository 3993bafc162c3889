#include "worker/engine_host/listing.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "worker/engine_host/library_file.h"

namespace cyllm {

namespace fs = std::filesystem;

namespace {

// What a driver makes when its device is here.
const std::pair<const char*, std::vector<const char*>> kDeviceFiles[] = {
    {"cuda", {"/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"}},
    {"rocm", {"/dev/kfd"}},
    {"vulkan", {"/dev/dri/renderD128", "/dev/dxg"}},
    {"ascend", {"/dev/davinci_manager", "/dev/davinci0"}},
};

std::vector<std::string> WhyNot(const Manifest& m) {
  std::vector<std::string> reasons;
  if (m.abi_major != CYLLM_ENGINE_ABI_MAJOR || m.abi_minor > CYLLM_ENGINE_ABI_MINOR)
    reasons.push_back(fmt::format("made for ABI {}.{}, this program offers {}.{}", m.abi_major, m.abi_minor,
                                  CYLLM_ENGINE_ABI_MAJOR, CYLLM_ENGINE_ABI_MINOR));
  if (!HasDevice(m.devices, [](const std::string& path) {
        std::error_code none;
        return fs::exists(path, none);
      }))
    reasons.push_back(fmt::format("needs {}, and there is none here", fmt::join(m.devices, " or ")));
  for (std::string& reason : WhyNotLoadable(m.library)) reasons.push_back(std::move(reason));
  return reasons;
}

}  // namespace

bool HasDevice(const std::vector<std::string>& devices,
               const std::function<bool(const std::string&)>& exists) {
  if (devices.empty()) return true;
  return std::ranges::any_of(devices, [&](const std::string& device) {
    const auto* known = std::ranges::find_if(kDeviceFiles, [&](const auto& d) { return device == d.first; });
    return known == std::end(kDeviceFiles) || std::ranges::any_of(known->second, exists);
  });
}

Result<std::vector<EngineListing>> ListEngines(const std::string& engine_dir) {
  std::vector<EngineListing> all;
  std::error_code ec;
  for (fs::directory_iterator it(engine_dir, ec), end; !ec && it != end; it.increment(ec)) {
    const fs::path path = it->path() / "manifest.json";
    if (std::error_code none; !fs::exists(path, none)) continue;
    EngineListing& listing = all.emplace_back();
    const Result<Manifest> manifest = ReadManifest(path.string());
    if (manifest) {
      listing = {*manifest, WhyNot(*manifest)};
    } else {
      listing.manifest.name = it->path().filename().string();
      listing.why_not.push_back(manifest.error().message);
    }
  }
  if (ec)
    return Err(MakeStatus(Code::kFailedPrecondition, "engine folder " + engine_dir + ": " + ec.message()));
  std::ranges::sort(all, {}, [](const EngineListing& e) { return e.manifest.name; });
  return all;
}

}  // namespace cyllm
