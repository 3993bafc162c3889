#include "inference/prefix_log.h"

#include <gtest/gtest.h>

namespace cyllm {
namespace {

TEST(PrefixLog, EachReaderHasItsOwnPlace) {
  PrefixLog log(8);
  const uint64_t held[] = {1, 2, 3}, dropped[] = {9};
  log.Add(held, dropped);
  uint64_t one = 0, two = 0;
  EXPECT_EQ(log.Since(one, 2).held, std::vector<uint64_t>{1});  // and the drop, which came first
  EXPECT_EQ(log.Since(one, 9).held, (std::vector<uint64_t>{2, 3}));
  EXPECT_TRUE(log.Since(one, 9).empty());
  EXPECT_EQ(log.Since(two, 9).dropped, std::vector<uint64_t>{9});
}

TEST(PrefixLog, ASlowReaderMissesTheOldest) {
  PrefixLog log(4);
  for (uint64_t i = 1; i <= 10; ++i) log.Add({&i, 1}, {});
  uint64_t cursor = 0;
  EXPECT_EQ(log.Since(cursor, 9).held, (std::vector<uint64_t>{7, 8, 9, 10}));
}

}  // namespace
}  // namespace cyllm
