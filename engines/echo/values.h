// Vectors and tokens of texts, as deterministic as echo's words.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cyllm::echo {

constexpr uint32_t kDimensions = 64;

// A unit vector: texts that share words are near each other. `dimensions` 0: kDimensions.
std::vector<float> VectorOf(std::string_view text, uint32_t dimensions);

// How many of the query's words the text has, from 0 to 1.
float ScoreOf(std::string_view query, std::string_view text);

// A token for each byte, and back.
std::vector<int32_t> TokensOf(std::string_view text);
// False: a token is none of these.
bool TextOf(const int32_t* tokens, size_t n, std::string* out);

}  // namespace cyllm::echo
