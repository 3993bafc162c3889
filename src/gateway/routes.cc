#include "gateway/routes.h"

#include "gateway/dialects/openai/openai.h"
#include "gateway/error_response.h"
#include "gateway/status_pages.h"

namespace cyllm {

namespace {

constexpr std::string_view kRest = "{id}";
constexpr std::string_view kGet = "GET, HEAD, OPTIONS", kPost = "POST, OPTIONS";

HttpResponse Json(std::string body) { return {200, std::move(body), "application/json", {}}; }

HttpResponse Models(const Asked& asked) { return Json(openai::ModelsBody(asked.service.Describe())); }

HttpResponse Model(const Asked& asked) {
  Result<std::string> body = openai::ModelBody(asked.service.Describe(), std::string(asked.rest));
  if (body) return Json(std::move(*body));
  return ToResponse(dialect::FromStatus(body.error()), openai::kDialect, asked.request.id);
}

constexpr const dialect::Dialect* kOpenAi = &openai::kDialect;

constexpr Route kRoutes[] = {
    {"/v1/chat/completions", kPost, kOpenAi, Access::kToken, openai::ParseChat, nullptr},
    {"/v1/completions", kPost, kOpenAi, Access::kToken, openai::ParseCompletion, nullptr},
    {"/v1/models", kGet, kOpenAi, Access::kModels, nullptr, Models},
    {"/v1/models/{id}", kGet, kOpenAi, Access::kModels, nullptr, Model},
    // The same without /v1, for llama.cpp's clients.
    {"/chat/completions", kPost, kOpenAi, Access::kToken, openai::ParseChat, nullptr},
    {"/completions", kPost, kOpenAi, Access::kToken, openai::ParseCompletion, nullptr},
    {"/models", kGet, kOpenAi, Access::kModels, nullptr, Models},
    {"/health", kGet, kOpenAi, Access::kOpen, nullptr, HealthPage},
    {"/ready", kGet, kOpenAi, Access::kOpen, nullptr, ReadyPage},
    {"/metrics", kGet, kOpenAi, Access::kOpen, nullptr, MetricsPage},
};

}  // namespace

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

const dialect::Dialect& DialectOf(std::string_view) { return openai::kDialect; }

}  // namespace cyllm
