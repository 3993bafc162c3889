// The HTTP API of the prototype before this one (/api/v1/inference). Two versions of it were written down;
// answers have the fields of both.
#pragma once

#include "gateway/dialects/common/dialect.h"

namespace cyllm::legacy {

extern const dialect::Dialect kDialect;

// POST /api/v1/inference, and /stream, /streamWithMetadata below it.
Result<dialect::Call> ParseInference(std::string_view body, const dialect::Limits& limits);
Result<dialect::Call> ParseInferenceStream(std::string_view body, const dialect::Limits& limits);

}  // namespace cyllm::legacy
