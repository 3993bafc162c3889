#include "gateway/dialects/anthropic/anthropic.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "base/utf8.h"
#include "gateway/dialects/anthropic/error.h"

namespace cyllm::anthropic {

namespace {

// The type, and the status that goes with it.
const char* TypeOf(dialect::ApiError& error) {
  switch (error.http) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      error.http = 529;
      return "overloaded_error";
    default:
      return error.http >= 500 ? "api_error" : "invalid_request_error";
  }
}

}  // namespace

std::string ErrorObject(dialect::ApiError& error) {
  std::string out = fmt::format(R"({{"type":"{}","message":")", TypeOf(error));
  if (error.prompt_tokens > 0)  // by these words Claude Code knows that it must compact its history
    fmt::format_to(std::back_inserter(out), "prompt is too long: {} tokens > {} maximum. ",
                   error.prompt_tokens, error.context_length);
  AppendJsonEscaped(out, error.message);
  return out + "\"}";
}

const dialect::Dialect kDialect = {
    .stream_type = "text/event-stream; charset=utf-8",
    .ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    .error_body =
        [](dialect::ApiError& error, std::string_view request_id) {
          return fmt::format(R"({{"type":"error","error":{},"request_id":"{}"}})", ErrorObject(error),
                             JsonEscape(request_id));
        },
    .id_header = "request-id",
};

std::string ModelsBody(const Snapshot& snapshot) {
  std::string out = R"({"data":[)";
  for (size_t i = 0; i < snapshot.models.size(); ++i) {
    const ModelInfo& model = snapshot.models[i];
    const std::string id = JsonEscape(model.id);
    fmt::format_to(
        std::back_inserter(out),
        R"({}{{"type":"model","id":"{}","display_name":"{}","created_at":"{:%Y-%m-%dT%H:%M:%SZ}"}})",
        i ? "," : "", id, id, fmt::gmtime(static_cast<std::time_t>(model.created)));
  }
  const auto quoted = [](const std::string& id) { return '"' + JsonEscape(id) + '"'; };
  const bool empty = snapshot.models.empty();
  return out + fmt::format(R"(],"has_more":false,"first_id":{},"last_id":{}}})",
                           empty ? "null" : quoted(snapshot.models.front().id),
                           empty ? "null" : quoted(snapshot.models.back().id));
}

}  // namespace cyllm::anthropic
