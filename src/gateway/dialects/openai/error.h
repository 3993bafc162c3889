// How a failure looks to OpenAI's clients.
#pragma once

#include <string>

#include "base/status.h"

namespace cyllm::openai {

struct ApiError {
  int http = 500;
  std::string type;  // invalid_request_error, server_error...
  std::string code;  // machine-readable; empty: null
  std::string param;
  std::string message;
  double retry_after_s = 0;  // 0: no header
  bool should_retry = true;  // false: a retry would fail the same way (SDKs retry every 5xx otherwise)
};

// The one table. What went wrong between our own processes (tokens, protocol) is an internal error to the
// client.
ApiError FromStatus(const Status& status);

// The error object, as a response's body and as an event of a stream.
std::string Body(const ApiError& error);

}  // namespace cyllm::openai
