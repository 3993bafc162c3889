#include "gateway/dialects/common/error.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace cyllm::dialect {

namespace {

// The number that `text` begins with; 0: none.
uint64_t NumberAt(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() ? number : 0;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

void TellContext(ApiError& error) {
  const std::string_view text = error.message;
  size_t at = 0;
  for (const std::string_view before :
       {"maximum context length is ", "context size (", "context length (", "at most "}) {
    at = text.find(before);
    if (at != text.npos) error.context_length = NumberAt(text.substr(at += before.size()));
    if (error.context_length > 0) break;
  }
  if (error.context_length == 0) return;
  for (size_t i = 0; i < text.size() && error.prompt_tokens == 0; ++i) {
    if (i == at || !IsDigit(text[i]) || (i > 0 && IsDigit(text[i - 1]))) continue;
    if (const uint64_t number = NumberAt(text.substr(i)); number >= error.context_length)
      error.prompt_tokens = number;
  }
  if (!text.ends_with('.')) error.message += '.';
  if (error.message.find("maximum context length is ") == text.npos)
    error.message += fmt::format(" The maximum context length is {} tokens.", error.context_length);
  if (error.message.find("exceeds the available context size") == text.npos)
    error.message += " The prompt exceeds the available context size.";
}

}  // namespace

ApiError FromStatus(const Status& status) {
  ApiError e;
  e.message = status.message.empty() ? "The request failed." : status.message;
  e.code = status.reason;
  e.param = status.param;
  const auto set = [&](int http, const char* type, const char* code, bool should_retry) {
    e.http = http;
    e.type = type;
    if (e.code.empty()) e.code = code;
    e.should_retry = should_retry;
  };
  const auto later = [&] {
    e.retry_after_s = std::clamp(static_cast<double>(status.retry_after.count()) / 1000, 1.0, 60.0);
  };
  switch (status.code) {
    case Code::kInvalidArgument:
    case Code::kOutOfRange:
      set(status.reason == "request_too_large" ? 413 : 400, "invalid_request_error", "", false);
      break;
    case Code::kUnimplemented:
      set(400, "invalid_request_error", "unsupported", false);
      break;
    case Code::kNotFound:
      set(404, "invalid_request_error", "model_not_found", false);
      if (e.param.empty()) e.param = "model";
      break;
    case Code::kResourceExhausted:
      if (status.reason == "rate_limit_exceeded") {
        set(429, "rate_limit_error", "rate_limit_exceeded", true);
      } else {
        set(503, "unavailable_error", "server_overloaded", true);
      }
      later();
      break;
    case Code::kUnavailable:
      set(503, "unavailable_error", "unavailable", true);
      later();
      break;
    case Code::kDeadlineExceeded:
      set(504, "server_error", "timeout", false);
      break;
    case Code::kCancelled:
      set(499, "server_error", "cancelled", false);
      break;
    default:
      set(500, "server_error", "internal_error", false);
      if (status.code == Code::kUnauthenticated || status.code == Code::kPermissionDenied) {
        e.message = "The server is not set up right: its parts do not accept each other.";
        e.code = "internal_error";
        e.param.clear();
      }
  }
  if (e.code == "context_length_exceeded") TellContext(e);
  return e;
}

ApiError FromHttp(int http, std::string_view message, std::string_view code) {
  ApiError error;
  error.http = http;
  error.type = http == 401   ? "authentication_error"
               : http == 403 ? "permission_error"
               : http == 429 ? "rate_limit_error"
               : http >= 500 ? "server_error"
                             : "invalid_request_error";
  error.code = code;
  error.message = message;
  error.should_retry = http == 408 || http == 429 || http == 503;
  if (http == 503) error.retry_after_s = 1;
  return error;
}

}  // namespace cyllm::dialect
