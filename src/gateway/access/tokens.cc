#include "gateway/access/tokens.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cctype>

namespace cyllm {

namespace {

std::array<unsigned char, 32> Digest(std::string_view text) {
  std::array<unsigned char, 32> digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

}  // namespace

TokenSet::TokenSet(const std::vector<std::string>& tokens) {
  for (const std::string& token : tokens) digests_.push_back(Digest(token));
}

bool TokenSet::Allows(std::string_view token) const {
  if (token.empty()) return open();
  const auto digest = Digest(token);
  int found = 0;
  for (const auto& known : digests_) found |= CRYPTO_memcmp(digest.data(), known.data(), digest.size()) == 0;
  return open() || found;
}

std::string_view TokenOf(std::string_view authorization, std::string_view x_api_key) {
  constexpr std::string_view kScheme = "bearer ";
  authorization = Trim(authorization);
  if (authorization.size() > kScheme.size() &&
      std::equal(kScheme.begin(), kScheme.end(), authorization.begin(), [](char expected, char c) {
        return expected == std::tolower(static_cast<unsigned char>(c));
      }))
    return Trim(authorization.substr(kScheme.size()));
  return Trim(x_api_key);
}

}  // namespace cyllm
