#include "llama_cpp/batch_parts.h"

#include <gtest/gtest.h>

#include <utility>

namespace cyllm::llama {
namespace {

// (sequence, rows) ...; what comes out likewise, a list for each part.
using Counts = std::vector<std::pair<uint32_t, uint32_t>>;

std::vector<Counts> Parts(const Counts& counts, uint32_t most) {
  std::vector<Row> rows;
  for (const auto& [sequence, n] : counts)
    for (uint32_t i = 0; i < n; ++i) rows.push_back({sequence, i, 0, false});
  std::vector<std::vector<uint32_t>> parts;
  Part(rows, most, &parts);
  std::vector<Counts> out;
  std::vector<uint32_t> next(100);
  for (const auto& part : parts) {
    Counts& to = out.emplace_back();
    for (const uint32_t i : part) {
      const Row& row = rows[i];
      EXPECT_EQ(row.position, next[row.sequence]++) << "in the order of its sequence";
      if (to.empty() || to.back().first != row.sequence) to.emplace_back(row.sequence, 0);
      ++to.back().second;
    }
  }
  return out;
}

TEST(BatchPartsTest, FewRowsOfManySequencesAreOne) {
  EXPECT_EQ(Parts({{0, 1}, {1, 1}, {5, 63}}, 512), (std::vector<Counts>{{{0, 1}, {1, 1}, {5, 63}}}));
}

TEST(BatchPartsTest, ManyRowsAreAPartOfTheirOwn) {
  EXPECT_EQ(Parts({{0, 1}, {1, 64}, {2, 1}, {3, 100}}, 512),
            (std::vector<Counts>{{{0, 1}, {2, 1}}, {{1, 64}}, {{3, 100}}}));
  EXPECT_EQ(Parts({{4, 512}}, 512), (std::vector<Counts>{{{4, 512}}}));
}

TEST(BatchPartsTest, MoreThanMostAreCutWithoutASmallRest) {
  EXPECT_EQ(Parts({{0, 513}}, 512), (std::vector<Counts>{{{0, 449}}, {{0, 64}}}));
  EXPECT_EQ(Parts({{0, 300}}, 128), (std::vector<Counts>{{{0, 128}}, {{0, 108}}, {{0, 64}}}));
}

}  // namespace
}  // namespace cyllm::llama
