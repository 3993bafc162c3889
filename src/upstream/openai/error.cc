#include "upstream/openai/error.h"

#include <boost/json.hpp>
#include <string>

#include "base/utf8.h"

namespace cyllm::upstream {

namespace json = boost::json;

namespace {

constexpr size_t kMaxMessage = 2000;

struct Said {
  std::string message, type, code, param;
  int status = 0;  // of an integer code
};

std::string Text(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value && value->is_string() ? std::string(value->get_string()) : std::string();
}

std::string Bounded(std::string_view text) {
  text = text.substr(0, kMaxMessage);
  return RepairUtf8(text.substr(0, CompleteUtf8Prefix(text)));
}

// OpenAI's {"error": {...}}, vLLM's {"error": "Unauthorized"} and FastAPI's {"detail": ...}, or their
// insides.
Said Read(const json::value& body) {
  Said said;
  const json::object* object = body.if_object();
  if (object) {
    if (const json::value* error = object->if_contains("error"); error && !error->is_null()) {
      if (error->is_string()) said.message = std::string(error->get_string());
      object = error->if_object();
    }
  } else if (body.is_string()) {
    said.message = std::string(body.get_string());
  }
  if (!object) return said;
  if (said.message.empty()) said.message = Text(*object, "message");
  said.type = Text(*object, "type");
  said.param = Text(*object, "param");
  said.code = Text(*object, "code");
  if (const json::value* code = object->if_contains("code"); code && code->is_int64())
    said.status = static_cast<int>(std::min<int64_t>(code->get_int64(), 599));
  if (const json::value* detail = object->if_contains("detail"); detail && said.message.empty())
    said.message = detail->is_string() ? std::string(detail->get_string()) : json::serialize(*detail);
  return said;
}

// A status for errors that come without: on a stream.
int Guess(const Said& said) {
  if (said.status >= 400) return said.status;
  for (const std::string& word : {said.type, said.code}) {
    if (word.find("rate_limit") != std::string::npos) return 429;
    if (word.find("overloaded") != std::string::npos || word.find("unavailable") != std::string::npos)
      return 503;
    if (word.find("not_found") != std::string::npos || word == "NotFoundError") return 404;
    if (word.starts_with("invalid_") || word == "BadRequestError") return 400;
  }
  return 500;
}

bool IsContextTooLong(const Said& said) {
  return said.code == "context_length_exceeded" ||
         said.message.find("maximum context length") != std::string::npos ||
         said.message.find("available context size") != std::string::npos ||
         said.message.find("model's context length") != std::string::npos ||
         said.type == "exceed_context_size_error";
}

Status Of(int status, const Said& said, Millis retry_after) {
  const auto ours = [&](Code code, const char* message, const char* reason, bool retryable = true) {
    Status s = MakeStatus(code, message, reason);
    s.retryable = retryable;
    if (retryable) s.retry_after = retry_after.count() > 0 ? retry_after : Millis(1'000);
    return s;
  };
  const std::string message = Bounded(said.message);
  switch (status) {
    case 400:
    case 422:
      return InvalidArgument(message.empty() ? "The request was refused by the model's server." : message,
                             Bounded(said.param),
                             IsContextTooLong(said) ? "context_length_exceeded" : Bounded(said.code));
    case 401:
    case 403:
      return ours(status == 401 ? Code::kUnauthenticated : Code::kPermissionDenied,
                  "the model's server does not accept our key", "upstream_auth");
    case 404:
      if (message == "Not Found" || message.empty() || message == "File Not Found")
        return ours(Code::kUnimplemented, "the model's server cannot do what the request needs",
                    "unsupported", false);
      {
        Status s = MakeStatus(Code::kNotFound, message, "model_not_found", "model");
        s.retryable = true;  // another one may have it
        return s;
      }
    case 405:
    case 501:
      return ours(Code::kUnimplemented, "the model's server cannot do what the request needs", "unsupported",
                  false);
    case 413:
      return InvalidArgument("The request is too large for the model's server.", "", "request_too_large");
    case 429:
    case 503:
    case 529:
      return ours(Code::kUnavailable, "the model's server is overloaded", "overloaded");
    default:
      if (status == 408 || status == 502 || status == 504)
        return ours(Code::kUnavailable, "the model's server did not answer", "upstream_unavailable");
      if (status >= 500) return ours(Code::kInternal, "the model's server failed", "upstream_failed");
      if (status >= 400)
        return InvalidArgument(message.empty() ? "The request was refused by the model's server." : message);
      return Garbage();
  }
}

}  // namespace

Status FromHttp(int http_status, std::string_view body, Millis retry_after, std::string* detail) {
  json::error_code ec;
  const json::value value = json::parse(body, ec);
  const Said said = ec ? Said{} : Read(value);
  if (detail) *detail = Bounded(said.message.empty() ? body : std::string_view(said.message));
  return Of(http_status, said, retry_after);
}

Status FromErrorJson(std::string_view text, std::string* detail) {
  json::error_code ec;
  const json::value value = json::parse(text, ec);
  const Said said = ec ? Said{} : Read(value);
  if (detail) *detail = Bounded(said.message.empty() ? text : std::string_view(said.message));
  return Of(Guess(said), said, Millis(0));
}

Status Garbage() {
  Status s = MakeStatus(Code::kInternal, "the model's server gave an answer that cannot be read",
                        "upstream_garbage");
  s.retryable = true;
  return s;
}

}  // namespace cyllm::upstream
