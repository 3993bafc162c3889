// Which web pages may ask (the Fetch standard's CORS).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cyllm {

// Immutable, thread-safe.
class CorsPolicy {
 public:
  // `origins` as in the header ("https://example.org"), or "*". Empty: pages of this machine only.
  explicit CorsPolicy(std::vector<std::string> origins);

  // Of a request without Origin: true, no page sent it.
  bool Allows(std::string_view origin) const;
  bool any() const { return any_; }

 private:
  std::vector<std::string> origins_;
  bool any_ = false;
};

// A page that this machine served, or an application on it.
bool IsLocalOrigin(std::string_view origin);

}  // namespace cyllm
