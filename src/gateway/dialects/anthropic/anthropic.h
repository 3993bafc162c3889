// Anthropic's Messages API: its bodies as calls, its events and errors.
#pragma once

#include <string>

#include "gateway/dialects/common/dialect.h"
#include "inference/service.h"

namespace cyllm::anthropic {

extern const dialect::Dialect kDialect;

// POST /v1/messages.
Result<dialect::Call> ParseMessages(std::string_view body, const dialect::Limits& limits);
// POST /v1/messages/count_tokens: the same request, of which nothing is generated.
Result<dialect::Call> ParseCountTokens(std::string_view body, const dialect::Limits& limits);

// GET /v1/models, for clients that say they are Anthropic's.
std::string ModelsBody(const Snapshot& snapshot);

}  // namespace cyllm::anthropic
