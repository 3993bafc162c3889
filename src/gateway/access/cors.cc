#include "gateway/access/cors.h"

#include <algorithm>

namespace cyllm {

CorsPolicy::CorsPolicy(std::vector<std::string> origins) : origins_(std::move(origins)) {
  any_ = std::find(origins_.begin(), origins_.end(), "*") != origins_.end();
}

bool CorsPolicy::Allows(std::string_view origin) const {
  if (origin.empty() || any_) return true;
  if (origins_.empty()) return IsLocalOrigin(origin);
  return std::find(origins_.begin(), origins_.end(), origin) != origins_.end();
}

bool IsLocalOrigin(std::string_view origin) {
  const size_t colon = origin.find("://");
  if (colon == std::string_view::npos) return false;
  const std::string_view scheme = origin.substr(0, colon);
  std::string_view host = origin.substr(colon + 3);
  if (scheme != "http" && scheme != "https")
    return scheme == "app" || scheme == "tauri" || scheme == "vscode-webview" || scheme == "vscode-file";
  const size_t port = host.starts_with('[') ? host.find(']') + 1 : host.find(':');
  host = host.substr(0, port);
  return host == "localhost" || host.ends_with(".localhost") || host == "[::1]" || host == "127.0.0.1";
}

}  // namespace cyllm
