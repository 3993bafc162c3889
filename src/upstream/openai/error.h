// What a server says when it refuses or fails, as a Status.
#pragma once

#include <string_view>

#include "base/clock.h"
#include "base/status.h"

namespace cyllm::upstream {

// An answer with a status other than 2xx. Codes of the client's mistakes keep the server's words; those of
// the server's own do not show them (they name paths and hosts): `detail`, where given, gets them for the
// log. `retry_after`: of the header, 0: none.
Status FromHttp(int http_status, std::string_view body, Millis retry_after, std::string* detail = nullptr);

// The same for the `error` of an event on a stream (or of a body with status 200), given as JSON text:
// OpenAI's object with an integer or textual code, or a mere text.
Status FromErrorJson(std::string_view json, std::string* detail = nullptr);

// Nothing that can be read as an answer.
Status Garbage();

}  // namespace cyllm::upstream
