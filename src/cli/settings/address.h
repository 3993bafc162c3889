// Addresses as people write them: "host:port", "[::1]:port", "unix:/path" (also "unix:///path" and a bare
// "/path").
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/config.h"

namespace cyllm {

struct Address {
  std::string host;  // without brackets; empty: a Unix socket
  int port = 0;
  std::string path;  // of the Unix socket

  bool is_unix() const { return host.empty(); }
  // Reachable from other machines. Unix sockets, 127.0.0.0/8, ::1 and localhost are not; names and wildcards
  // are.
  bool is_public() const;
  std::string ToString() const;  // "host:port", "[::1]:port" or "unix:/path"
};

std::optional<Address> ParseAddress(std::string_view text);

// The first of `addresses` that is_public(), as text; empty: none. What does not parse counts as public.
std::string FirstPublic(const std::vector<std::string>& addresses);

// Each in the form of ToString(); "none" is left out.
std::vector<std::string> CanonicalAddresses(const std::vector<std::string>& addresses);

SettingCheck ListenTcpCheck();   // host:port, port 0 allowed
SettingCheck ListenAnyCheck();   // the same or a Unix socket
SettingCheck DialCheck();        // host:port with a port, or a Unix socket
SettingCheck DialOrNoneCheck();  // the same or "none"

}  // namespace cyllm
