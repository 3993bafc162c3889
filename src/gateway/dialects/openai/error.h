// OpenAI's error object.
#pragma once

#include <string>

#include "gateway/dialects/common/error.h"

namespace cyllm::openai {

// As a response's body and as an event of a stream.
std::string ErrorBody(const dialect::ApiError& error);

}  // namespace cyllm::openai
