// How a failure looks to clients: the one table from our codes to HTTP's. Dialects only word it.
#pragma once

#include <string>

#include "base/status.h"

namespace cyllm::dialect {

struct ApiError {
  int http = 500;
  std::string type;  // OpenAI's: invalid_request_error, server_error...
  std::string code;  // machine-readable; empty: null
  std::string param;
  std::string message;
  uint64_t prompt_tokens = 0, context_length = 0;  // of context_length_exceeded, where known
  double retry_after_s = 0;                        // 0: no header
  bool should_retry = true;  // false: a retry would fail the same way (SDKs retry every 5xx otherwise)
};

// What went wrong between our own processes (tokens, protocol) is an internal error to the client. Of
// context_length_exceeded, in whatever words the model's server said it, the numbers are read and the words
// added by which agents know that they must shorten their history.
ApiError FromStatus(const Status& status);

// Of what has no Status: paths, methods, malformed HTTP.
ApiError FromHttp(int http, std::string_view message, std::string_view code);

}  // namespace cyllm::dialect
