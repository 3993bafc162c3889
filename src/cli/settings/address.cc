#include "cli/settings/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>

namespace cyllm {
namespace {

constexpr size_t kMaxUnixPath = sizeof(sockaddr_un::sun_path) - 1;

bool IsHostName(std::string_view host) {
  return !host.empty() && host.size() <= 253 && std::ranges::all_of(host, [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '-' || c == '_';
  });
}

bool IsIpv6(const std::string& host) {
  in6_addr bytes;
  return inet_pton(AF_INET6, host.c_str(), &bytes) == 1;
}

std::optional<Address> ParseUnix(std::string_view path) {
  if (path.starts_with("//")) {
    path.remove_prefix(2);
    if (!path.starts_with("/")) return std::nullopt;
  }
  if (path.empty() || path.size() > kMaxUnixPath || path.find('\0') != std::string_view::npos) {
    return std::nullopt;
  }
  return Address{"", 0, std::string(path)};
}

}  // namespace

bool Address::is_public() const {
  if (is_unix()) return false;
  if (host == "localhost" || host == "::1") return false;
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) != 127;
  return true;
}

std::string Address::ToString() const {
  if (is_unix()) return "unix:" + path;
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

std::optional<Address> ParseAddress(std::string_view text) {
  if (text.starts_with("unix:")) return ParseUnix(text.substr(5));
  if (text.starts_with("/")) return ParseUnix(text);
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string host(text.substr(0, colon));
  const std::string_view digits = text.substr(colon + 1);
  if (host.starts_with("[") && host.ends_with("]")) {
    host = host.substr(1, host.size() - 2);
    if (!IsIpv6(host)) return std::nullopt;
  } else if (!IsHostName(host)) {
    return std::nullopt;
  }
  int port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port < 0 || port > 65535) {
    return std::nullopt;
  }
  return Address{std::move(host), port, ""};
}

std::string FirstPublic(const std::vector<std::string>& addresses) {
  for (const auto& text : addresses) {
    const auto address = ParseAddress(text);
    if (!address || address->is_public()) return text;
  }
  return "";
}

std::vector<std::string> CanonicalAddresses(const std::vector<std::string>& addresses) {
  std::vector<std::string> out;
  for (const auto& text : addresses) {
    if (text == "none") continue;
    const auto address = ParseAddress(text);
    out.push_back(address ? address->ToString() : text);
  }
  return out;
}

SettingCheck ListenTcpCheck() {
  return {[](const std::string& text) {
            const auto address = ParseAddress(text);
            return address && !address->is_unix();
          },
          "host:port (0.0.0.0:port for all interfaces, port 0 for any free one)"};
}

SettingCheck ListenAnyCheck() {
  return {[](const std::string& text) { return ParseAddress(text).has_value(); },
          "host:port (0.0.0.0:port for all interfaces, port 0 for any free one) or unix:/path"};
}

SettingCheck DialCheck() {
  return {[](const std::string& text) {
            const auto address = ParseAddress(text);
            return address && (address->is_unix() || address->port > 0);
          },
          "host:port or unix:/path"};
}

SettingCheck DialOrNoneCheck() {
  return {[dial = DialCheck()](const std::string& text) { return text == "none" || dial.ok(text); },
          "host:port, unix:/path or none"};
}

}  // namespace cyllm
