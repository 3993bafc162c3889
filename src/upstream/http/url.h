// Where a server is: http://host[:port][/base], https://..., or unix:/path/of/socket (no base).
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace cyllm {

struct Url {
  bool tls = false;
  std::string host;  // without brackets; empty: a Unix socket
  std::string port;  // a number
  std::string unix_path;
  std::string base;  // before every route; without a slash at the end. A trailing /v1 is cut: routes have it

  bool is_unix() const { return host.empty(); }
  std::string HostHeader() const;
  std::string ToString() const;  // without base
};

// INVALID_ARGUMENT with what is allowed. Names and passwords in URLs are refused: keys come from variables.
Result<Url> ParseUrl(std::string_view text);

}  // namespace cyllm
