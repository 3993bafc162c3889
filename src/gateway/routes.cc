#include "gateway/routes.h"

#include "gateway/api_document/api_document.h"
#include "gateway/dialects/anthropic/anthropic.h"
#include "gateway/dialects/legacy/legacy.h"
#include "gateway/dialects/ollama/ollama.h"
#include "gateway/dialects/openai/openai.h"
#include "gateway/dialects/responses/responses.h"
#include "gateway/error_response.h"
#include "gateway/status_pages.h"

namespace cyllm {

namespace {

constexpr std::string_view kRest = "{id}";
constexpr std::string_view kGet = "GET, HEAD, OPTIONS", kPost = "POST, OPTIONS";

HttpResponse Json(std::string body) { return {200, std::move(body), "application/json", {}}; }

HttpResponse Reply(Result<std::string> body, const dialect::Dialect& dialect, const Asked& asked) {
  if (body) return Json(std::move(*body));
  return ToResponse(dialect::FromStatus(body.error()), dialect, asked.request.id);
}

HttpResponse Models(const Asked& asked) {
  return Json(asked.request.Header("anthropic-version").empty() ? openai::ModelsBody(asked.snapshot)
                                                                : anthropic::ModelsBody(asked.snapshot));
}

HttpResponse Model(const Asked& asked) {
  return Reply(openai::ModelBody(asked.snapshot, std::string(asked.rest)), openai::kDialect, asked);
}

HttpResponse OllamaTags(const Asked& asked) { return Json(ollama::TagsBody(asked.snapshot)); }
HttpResponse OllamaRunning(const Asked& asked) { return Json(ollama::RunningBody(asked.snapshot)); }
HttpResponse OllamaVersion(const Asked&) { return Json(ollama::VersionBody()); }
HttpResponse OllamaShow(const Asked& asked) {
  return Reply(ollama::ShowBody(asked.snapshot, asked.request.body), ollama::kDialect, asked);
}
// What its clients look for to find a server.
HttpResponse OllamaRoot(const Asked&) { return {200, "Ollama is running", "text/plain; charset=utf-8", {}}; }

HttpResponse ApiDocument(const Asked&) { return Json(std::string(kOpenApiJson)); }
HttpResponse ApiPage(const Asked&) { return {200, std::string(kApiPage), "text/html; charset=utf-8", {}}; }

constexpr const dialect::Dialect* kOpenAi = &openai::kDialect;
constexpr const dialect::Dialect* kAnthropic = &anthropic::kDialect;
constexpr const dialect::Dialect* kOllama = &ollama::kDialect;
constexpr const dialect::Dialect* kLegacy = &legacy::kDialect;

constexpr Route kRoutes[] = {
    {"/v1/chat/completions", kPost, kOpenAi, Access::kToken, openai::ParseChat, nullptr},
    {"/v1/completions", kPost, kOpenAi, Access::kToken, openai::ParseCompletion, nullptr},
    {"/v1/embeddings", kPost, kOpenAi, Access::kToken, openai::ParseEmbeddings, nullptr},
    {"/v1/responses", kPost, kOpenAi, Access::kToken, responses::Parse, nullptr},
    {"/v1/responses/input_tokens", kPost, kOpenAi, Access::kToken, responses::ParseInputTokens, nullptr},
    {"/v1/messages", kPost, kAnthropic, Access::kToken, anthropic::ParseMessages, nullptr},
    {"/v1/messages/count_tokens", kPost, kAnthropic, Access::kToken, anthropic::ParseCountTokens, nullptr},
    {"/v1/rerank", kPost, kOpenAi, Access::kToken, openai::ParseRerank, nullptr},
    {"/v1/models", kGet, kOpenAi, Access::kModels, nullptr, Models},
    {"/v1/models/{id}", kGet, kOpenAi, Access::kModels, nullptr, Model},
    {"/tokenize", kPost, kOpenAi, Access::kToken, openai::ParseTokenize, nullptr},
    {"/detokenize", kPost, kOpenAi, Access::kToken, openai::ParseDetokenize, nullptr},
    // The same without /v1, for llama.cpp's clients.
    {"/chat/completions", kPost, kOpenAi, Access::kToken, openai::ParseChat, nullptr},
    {"/completions", kPost, kOpenAi, Access::kToken, openai::ParseCompletion, nullptr},
    {"/embeddings", kPost, kOpenAi, Access::kToken, openai::ParseEmbeddings, nullptr},
    {"/responses", kPost, kOpenAi, Access::kToken, responses::Parse, nullptr},
    {"/rerank", kPost, kOpenAi, Access::kToken, openai::ParseRerank, nullptr},
    {"/models", kGet, kOpenAi, Access::kModels, nullptr, Models},
    {"/models/{id}", kGet, kOpenAi, Access::kModels, nullptr, Model},
    // Ollama's.
    {"/api/chat", kPost, kOllama, Access::kToken, ollama::ParseChat, nullptr},
    {"/api/generate", kPost, kOllama, Access::kToken, ollama::ParseGenerate, nullptr},
    {"/api/embed", kPost, kOllama, Access::kToken, ollama::ParseEmbed, nullptr},
    {"/api/embeddings", kPost, kOllama, Access::kToken, ollama::ParseOldEmbeddings, nullptr},
    {"/api/tags", kGet, kOllama, Access::kModels, nullptr, OllamaTags},
    {"/api/ps", kGet, kOllama, Access::kModels, nullptr, OllamaRunning},
    {"/api/show", kPost, kOllama, Access::kModels, nullptr, OllamaShow},
    {"/api/version", kGet, kOllama, Access::kOpen, nullptr, OllamaVersion, false},
    {"/", kGet, kOllama, Access::kOpen, nullptr, OllamaRoot, false},
    // The old prototype's.
    {"/api/v1/inference", kPost, kLegacy, Access::kToken, legacy::ParseInference, nullptr},
    {"/api/v1/inference/stream", kPost, kLegacy, Access::kToken, legacy::ParseInferenceStream, nullptr},
    {"/api/v1/inference/streamWithMetadata", kPost, kLegacy, Access::kToken, legacy::ParseInferenceStream,
     nullptr},
    {"/openapi.json", kGet, kOpenAi, Access::kOpen, nullptr, ApiDocument, false},
    {"/docs", kGet, kOpenAi, Access::kOpen, nullptr, ApiPage, false},
    {"/health", kGet, kOpenAi, Access::kOpen, nullptr, HealthPage, false},
    {"/ready", kGet, kOpenAi, Access::kOpen, nullptr, ReadyPage},
    {"/metrics", kGet, kOpenAi, Access::kOpen, nullptr, MetricsPage, false},
};

}  // namespace

std::span<const Route> Routes() { return kRoutes; }

const Route* FindRoute(std::string_view path, std::string_view& rest) {
  for (const Route& route : kRoutes) {
    if (route.path == path) return &route;
    if (!route.path.ends_with(kRest)) continue;
    const std::string_view prefix = route.path.substr(0, route.path.size() - kRest.size());
    if (path.size() > prefix.size() && path.starts_with(prefix)) {
      rest = path.substr(prefix.size());
      return &route;
    }
  }
  return nullptr;
}

const dialect::Dialect& DialectOf(std::string_view path) {
  if (path.starts_with("/v1/messages")) return anthropic::kDialect;
  if (path.starts_with("/api/v1/")) return legacy::kDialect;
  if (path.starts_with("/api/")) return ollama::kDialect;
  return openai::kDialect;
}

}  // namespace cyllm
