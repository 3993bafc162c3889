// HTTP requests over libcurl, one at a time, blocking. For tools in a terminal; servers use the I/O threads.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace cyllm {

struct HttpCall {
  std::string url;
  std::string bearer;                    // sent as `Authorization: Bearer ...`; empty: none
  std::string json;                      // posted; empty: GET
  std::string method;                    // another one than that; empty: as `json` says
  std::chrono::milliseconds timeout{0};  // of the whole call; 0: none
};

// Receives the body as it comes; false ends the call.
using HttpSink = std::function<bool(int status, std::string_view piece)>;

// The answer's status code, whatever it is. UNAVAILABLE when there is no answer (with a sentence for people),
// CANCELLED when the sink or `stop` said so. `stop` is asked several times a second.
Result<int> Fetch(const HttpCall& call, const HttpSink& sink, const std::function<bool()>& stop = {});

}  // namespace cyllm
