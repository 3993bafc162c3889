// A step's rows as the batches that llama.cpp gets.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "llama_cpp/decoder.h"

namespace cyllm::llama {

// llama.cpp cuts a batch by what all of its sequences have left, and so decides who is computed in tiles by
// who else is there. Therefore kTileRows or more rows of a sequence make parts of their own, each of `most`
// rows at most and none of fewer than kTileRows; the others are the first part. Indices of rows, ascending
// within a part; `most` is 2 * kTileRows or more.
void Part(std::span<const Row> rows, uint32_t most, std::vector<std::vector<uint32_t>>* parts);

}  // namespace cyllm::llama
