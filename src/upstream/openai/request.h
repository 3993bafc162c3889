// A request of the graph as a call of a server's HTTP API. Pure: JSON texts of the payload are spliced in as
// they are, only what must change is rewritten.
#pragma once

#include <string>

#include "base/status.h"
#include "inference/request.h"
#include "upstream/openai/profile.h"

namespace cyllm::upstream {

struct HttpCall {
  std::string path;  // with the leading slash
  std::string body;  // JSON
  bool stream = false;
};

// `model`: the server's name for it. UNIMPLEMENTED with `param` for what the profile's server does not know,
// FAILED_PRECONDITION (cannot_resume) for requests that were begun elsewhere: continuation.h.
Result<HttpCall> ToHttp(const Profile& profile, std::string_view model, const RequestFacts& facts,
                        const PayloadParts& parts);

}  // namespace cyllm::upstream
