// OpenAI's endpoints: their bodies as calls, their answers as bytes.
#pragma once

#include <string>

#include "gateway/dialects/common/dialect.h"
#include "inference/service.h"

namespace cyllm::openai {

extern const dialect::Dialect kDialect;

// POST /v1/chat/completions, /v1/completions.
Result<dialect::Call> ParseChat(std::string_view body, const dialect::Limits& limits);
Result<dialect::Call> ParseCompletion(std::string_view body, const dialect::Limits& limits);

// POST /v1/embeddings, /v1/rerank, /tokenize, /detokenize.
Result<dialect::Call> ParseEmbeddings(std::string_view body, const dialect::Limits& limits);
Result<dialect::Call> ParseRerank(std::string_view body, const dialect::Limits& limits);
Result<dialect::Call> ParseTokenize(std::string_view body, const dialect::Limits& limits);
Result<dialect::Call> ParseDetokenize(std::string_view body, const dialect::Limits& limits);

// GET /v1/models, /v1/models/{id}.
std::string ModelsBody(const Snapshot& snapshot);
Result<std::string> ModelBody(const Snapshot& snapshot, const std::string& id);

}  // namespace cyllm::openai
