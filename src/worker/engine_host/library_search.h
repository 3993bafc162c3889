// Where the loader would find a library by its name.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cyllm {

// Looks into `folders`, LD_LIBRARY_PATH, the loader's cache and its usual folders. Nothing: not found. An
// empty path: this process has it loaded.
std::optional<std::string> FindLibrary(const std::string& name, const std::vector<std::string>& folders);

// The path of a library in the bytes of /etc/ld.so.cache (of glibc 2.2 and later); empty: not in it.
std::string FindInCache(std::string_view cache, std::string_view name);

}  // namespace cyllm
