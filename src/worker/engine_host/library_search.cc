#include "worker/engine_host/library_search.h"

#include <link.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace cyllm {

namespace fs = std::filesystem;

namespace {

bool IsLoaded(const std::string& name) {
  struct Search {
    const std::string& name;
    bool found = false;
  } search{name};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* ctx) {
        auto& s = *static_cast<Search*>(ctx);
        s.found |= fs::path(info->dlpi_name).filename() == s.name;
        return 0;
      },
      &search);
  return search.found;
}

std::string_view TextAt(std::string_view bytes, size_t at) {
  if (at >= bytes.size()) return {};
  bytes.remove_prefix(at);
  return bytes.substr(0, bytes.find('\0'));
}

}  // namespace

std::string FindInCache(std::string_view cache, std::string_view name) {
  constexpr std::string_view kMagic = "glibc-ld.so.cache1.1";
  constexpr size_t kHead = 48, kEntry = 24;
  const size_t begin = cache.find(kMagic);  // older files have another table before it
  if (begin == std::string_view::npos || cache.size() < begin + kHead) return {};
  cache.remove_prefix(begin);
  uint32_t count = 0;
  std::memcpy(&count, cache.data() + kMagic.size(), sizeof count);
  for (size_t i = 0; i < count && kHead + (i + 1) * kEntry <= cache.size(); ++i) {
    uint32_t key = 0, value = 0;
    std::memcpy(&key, cache.data() + kHead + i * kEntry + 4, sizeof key);
    std::memcpy(&value, cache.data() + kHead + i * kEntry + 8, sizeof value);
    if (TextAt(cache, key) == name) return std::string(TextAt(cache, value));
  }
  return {};
}

std::optional<std::string> FindLibrary(const std::string& name, const std::vector<std::string>& folders) {
  if (IsLoaded(name)) return "";
  std::vector<std::string> all = folders;
  if (const char* path = std::getenv("LD_LIBRARY_PATH")) {
    std::istringstream list(path);
    for (std::string folder; std::getline(list, folder, ':');) all.push_back(folder.empty() ? "." : folder);
  }
  const auto in = [&](const std::string& folder) -> std::optional<std::string> {
    std::error_code none;
    const fs::path path = fs::path(folder) / name;
    return fs::is_regular_file(path, none) ? std::optional(path.string()) : std::nullopt;
  };
  for (const std::string& folder : all)
    if (auto found = in(folder)) return found;
  std::ifstream file("/etc/ld.so.cache", std::ios::binary);
  std::stringstream cache;
  cache << file.rdbuf();
  if (std::string found = FindInCache(cache.str(), name); !found.empty()) return found;
  for (const char* folder : {"/lib64", "/usr/lib64", "/lib", "/usr/lib"})
    if (auto found = in(folder)) return found;
  return std::nullopt;
}

}  // namespace cyllm
