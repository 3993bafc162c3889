// What Ollama's requests and answers have in common.
#pragma once

#include <string>

#include "gateway/dialects/common/dialect.h"
#include "gateway/dialects/common/fields.h"

namespace cyllm::ollama {

// `name` without Ollama's tag ":latest".
std::string ModelId(std::string name);

std::string Rfc3339(int64_t unix_seconds);

std::string ErrorLine(const dialect::ApiError& error);

// `model`, as asked for in `call` and as the fleet knows it in `facts`.
void ReadModel(dialect::Fields& fields, dialect::Call& call, RequestFacts& facts);
// `options`: limits and sampling.
void ReadOptions(dialect::Fields& fields, RequestFacts& facts, Sampling& sampling);
// `format`: "json" or a schema.
void ReadFormat(dialect::Fields& fields, RequestFacts& facts, PayloadParts& parts);
void ReadThink(dialect::Fields& fields, PayloadParts& parts);

}  // namespace cyllm::ollama
