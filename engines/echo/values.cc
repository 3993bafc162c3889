#include "echo/values.h"

#include <algorithm>
#include <cmath>

#include "echo/prompt.h"

namespace cyllm::echo {

namespace {

uint64_t Hash(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return hash;
}

}  // namespace

std::vector<float> VectorOf(std::string_view text, uint32_t dimensions) {
  std::vector<float> out(kDimensions);
  for (const std::string& word : Words(text)) {
    uint64_t hash = Hash(word);
    for (float& v : out) {
      hash = hash * 0x5851F42D4C957F2Du + 0x14057B7EF767814Fu;
      v += static_cast<float>(hash >> 40) / static_cast<float>(1 << 23) - 1;
    }
  }
  if (dimensions > 0 && dimensions < out.size()) out.resize(dimensions);
  double sum = 0;
  for (const float v : out) sum += double{v} * v;
  if (sum <= 0) out[0] = 1, sum = 1;
  for (float& v : out) v = static_cast<float>(v / std::sqrt(sum));
  return out;
}

float ScoreOf(std::string_view query, std::string_view text) {
  const std::vector<std::string> asked = Words(query), said = Words(text);
  if (asked.empty()) return 0;
  const auto found = std::count_if(asked.begin(), asked.end(), [&](const std::string& word) {
    return std::find(said.begin(), said.end(), word) != said.end();
  });
  return static_cast<float>(found) / static_cast<float>(asked.size());
}

std::vector<int32_t> TokensOf(std::string_view text) {
  std::vector<int32_t> out;
  for (const char c : text) out.push_back(static_cast<uint8_t>(c));
  return out;
}

bool TextOf(const int32_t* tokens, size_t n, std::string* out) {
  for (size_t i = 0; i < n; ++i) {
    if (tokens[i] < 0 || tokens[i] > 255) return false;
    *out += tokens[i] < 128 ? static_cast<char>(tokens[i]) : '\0';
  }
  // What is no text by itself: bytes above ASCII count only as they came from one.
  if (out->find('\0') == std::string::npos) return true;
  std::string bytes;
  for (size_t i = 0; i < n; ++i) bytes += static_cast<char>(tokens[i]);
  *out = std::move(bytes);
  return true;
}

}  // namespace cyllm::echo
