#include "upstream/http/url.h"

#include <sys/un.h>

#include <algorithm>
#include <charconv>

namespace cyllm {

namespace {

bool IsHost(std::string_view host) {
  return !host.empty() && host.size() <= 253 && std::ranges::all_of(host, [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '-' || c == '_';
  });
}

bool IsIpv6(std::string_view host) {
  return host.size() >= 2 &&
         std::ranges::all_of(host, [](unsigned char c) { return std::isxdigit(c) || c == ':' || c == '.'; });
}

bool IsPath(std::string_view path) {
  return std::ranges::all_of(path,
                             [](unsigned char c) { return c > ' ' && c < 0x7f && c != '?' && c != '#'; });
}

}  // namespace

std::string Url::HostHeader() const {
  if (is_unix()) return "localhost";
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return port == (tls ? "443" : "80") ? name : name + ":" + port;
}

std::string Url::ToString() const {
  if (is_unix()) return "unix:" + unix_path;
  return (tls ? "https://" : "http://") + HostHeader();
}

Result<Url> ParseUrl(std::string_view text) {
  const auto wrong = [&] {
    return Err(InvalidArgument("'" + std::string(text.substr(0, 200)) +
                               "' is no server: say http://host:port, https://host:port or unix:/path"));
  };
  Url url;
  std::string_view rest = text;
  if (rest.starts_with("unix:")) {
    rest.remove_prefix(5);
    if (rest.starts_with("///")) rest.remove_prefix(2);
    if (rest.empty() || rest.size() >= sizeof(sockaddr_un::sun_path) || rest.find('\0') != rest.npos)
      return wrong();
    url.unix_path = std::string(rest);
    return url;
  }
  if (rest.starts_with("https://")) {
    url.tls = true;
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else {
    return wrong();
  }
  const size_t slash = std::min(rest.find('/'), rest.size());
  std::string_view authority = rest.substr(0, slash), base = rest.substr(slash);
  while (base.ends_with('/')) base.remove_suffix(1);
  if (base.ends_with("/v1")) base.remove_suffix(3);
  if (!IsPath(base)) return wrong();
  url.base = std::string(base);
  std::string_view port;
  if (authority.starts_with('[')) {
    const size_t close = authority.find(']');
    if (close == authority.npos || !IsIpv6(authority.substr(1, close - 1))) return wrong();
    url.host = std::string(authority.substr(1, close - 1));
    port = authority.substr(close + 1);
  } else {
    const size_t colon = std::min(authority.find(':'), authority.size());
    if (!IsHost(authority.substr(0, colon))) return wrong();
    url.host = std::string(authority.substr(0, colon));
    port = authority.substr(colon);
  }
  url.port = url.tls ? "443" : "80";
  if (!port.empty()) {
    int number = 0;
    const auto [end, ec] = std::from_chars(port.data() + 1, port.data() + port.size(), number);
    if (port.front() != ':' || ec != std::errc() || end != port.data() + port.size() || number < 1 ||
        number > 65'535)
      return wrong();
    url.port = std::to_string(number);
  }
  return url;
}

}  // namespace cyllm
