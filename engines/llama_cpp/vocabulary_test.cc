#include "llama_cpp/vocabulary.h"

#include <gtest/gtest.h>

namespace cyllm::llama {
namespace {

std::string Times(size_t n, std::string_view text) {
  std::string out;
  while (n-- > 0) out += text;
  return out;
}

TEST(Vocabulary, LongStretchesAreFound) {
  EXPECT_FALSE(HasLongStretch(""));
  EXPECT_FALSE(HasLongStretch(std::string(kLongStretch - 1, 'a')));
  EXPECT_TRUE(HasLongStretch("so " + std::string(kLongStretch, 'a')));
  EXPECT_TRUE(HasLongStretch(std::string(kLongStretch, '\n') + "x"));
  EXPECT_TRUE(HasLongStretch(std::string(kLongStretch, '7')));
  EXPECT_TRUE(HasLongStretch(Times(kLongStretch / 2, "!?")));
  EXPECT_TRUE(HasLongStretch(Times(kLongStretch / 2, "!\u2014")));
  EXPECT_FALSE(HasLongStretch(Times(kLongStretch, "a b")));
  EXPECT_FALSE(HasLongStretch(Times(kLongStretch, "ab12")));
  // What is not ASCII counts with what is before it and with what is behind it.
  EXPECT_TRUE(HasLongStretch("1" + Times(kLongStretch - 1, "\u4e00")));
  EXPECT_TRUE(HasLongStretch("1" + Times(kLongStretch - 2, "\u4e00") + "ab"));
  EXPECT_FALSE(HasLongStretch("1" + Times(kLongStretch - 2, "\u4e00") + "a 1"));
  EXPECT_FALSE(HasLongStretch(Times(kLongStretch, "\u4e00 a")));
}

}  // namespace
}  // namespace cyllm::llama
