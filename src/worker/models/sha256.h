#pragma once

#include <string>

#include "base/status.h"

namespace cyllm {

// Of a file, in lower-case hex; blocks.
Result<std::string> Sha256OfFile(const std::string& path);

}  // namespace cyllm
