#include "llama_cpp/batch_parts.h"

#include <numeric>

#include "llama_cpp/chunk.h"

namespace cyllm::llama {

void Part(std::span<const Row> rows, uint32_t most, std::vector<std::vector<uint32_t>>* parts) {
  parts->clear();
  parts->emplace_back();
  const auto take = [&](size_t part, uint32_t begin, uint32_t count) {
    std::vector<uint32_t>& to = (*parts)[part];
    to.resize(to.size() + count);
    std::iota(to.end() - count, to.end(), begin);
  };
  const auto size = static_cast<uint32_t>(rows.size());
  for (uint32_t begin = 0, end = 0; begin < size; begin = end) {
    while (end < size && rows[end].sequence == rows[begin].sequence) ++end;
    if (end - begin < kTileRows) {
      take(0, begin, end - begin);
      continue;
    }
    for (uint32_t at = begin; at < end;) {
      const uint32_t left = end - at, count = left <= most ? left : Chunk(left, 0, most);
      parts->emplace_back();
      take(parts->size() - 1, at, count);
      at += count;
    }
  }
  if (parts->front().empty()) parts->erase(parts->begin());
}

}  // namespace cyllm::llama
