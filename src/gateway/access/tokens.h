// Who may ask: static bearer tokens.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace cyllm {

// Immutable, thread-safe. Keeps digests only; comparing takes the same time whatever was sent.
class TokenSet {
 public:
  explicit TokenSet(const std::vector<std::string>& tokens);

  bool open() const { return digests_.empty(); }  // no token configured: everybody may
  bool Allows(std::string_view token) const;

 private:
  std::vector<std::array<unsigned char, 32>> digests_;
};

// The token of an `Authorization: Bearer ...` header (scheme in any case), else of X-Api-Key; empty: none.
std::string_view TokenOf(std::string_view authorization, std::string_view x_api_key);

}  // namespace cyllm
