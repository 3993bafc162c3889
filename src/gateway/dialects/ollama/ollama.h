// Ollama's API: bodies as calls, answers as lines of JSON, and what it tells of models.
#pragma once

#include <string>

#include "gateway/dialects/common/dialect.h"
#include "inference/service.h"

namespace cyllm::ollama {

extern const dialect::Dialect kDialect;

Result<dialect::Call> ParseChat(std::string_view body, const dialect::Limits& limits);  // POST /api/chat
Result<dialect::Call> ParseGenerate(std::string_view body,
                                    const dialect::Limits& limits);                      // POST /api/generate
Result<dialect::Call> ParseEmbed(std::string_view body, const dialect::Limits& limits);  // POST /api/embed
Result<dialect::Call> ParseOldEmbeddings(std::string_view body,
                                         const dialect::Limits& limits);  // POST /api/embeddings

std::string TagsBody(const Snapshot& snapshot);                                    // GET /api/tags
std::string RunningBody(const Snapshot& snapshot);                                 // GET /api/ps
Result<std::string> ShowBody(const Snapshot& snapshot, std::string_view request);  // POST /api/show
std::string VersionBody();                                                         // GET /api/version

}  // namespace cyllm::ollama
