// OpenAI's Responses API without its memory: every request brings its whole history. Errors outside streams
// are OpenAI's.
#pragma once

#include "gateway/dialects/common/dialect.h"

namespace cyllm::responses {

// POST /v1/responses.
Result<dialect::Call> Parse(std::string_view body, const dialect::Limits& limits);
// POST /v1/responses/input_tokens: the same request, of which nothing is generated.
Result<dialect::Call> ParseInputTokens(std::string_view body, const dialect::Limits& limits);

}  // namespace cyllm::responses
