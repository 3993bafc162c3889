#pragma once

#include <string>

#include "gateway/dialects/common/error.h"

namespace cyllm::anthropic {

// {"type":...,"message":...}; a 503 becomes Anthropic's 529.
std::string ErrorObject(dialect::ApiError& error);

}  // namespace cyllm::anthropic
