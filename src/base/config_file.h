// Reads a configuration file, TOML or (ending in .json) JSON, into a flat list of keys.
#pragma once

#include <string>
#include <vector>

#include "base/config_value.h"

namespace cyllm {

struct FileEntry {
  std::string path;  // "gateway.listen"; keys that are not plain words are quoted
  FileValue value;
  int line = 0;  // 0: not known
};

inline constexpr size_t kMaxConfigFileBytes = 1u << 20;

bool IsJsonFile(const std::string& path);

// INVALID_ARGUMENT naming the file (and the line) when it cannot be read, is too long, or is not in its
// format.
Result<std::vector<FileEntry>> ReadConfigFile(const std::string& path);

}  // namespace cyllm
