#include "base/utf8.h"

#include <gtest/gtest.h>

namespace cyllm {
namespace {

TEST(CompleteUtf8Prefix, HoldsBackOnlyAnUnfinishedCodePoint) {
  const std::string euro = "\xE2\x82\xAC";       // U+20AC
  const std::string smile = "\xF0\x9F\x98\x80";  // U+1F600
  for (const std::string& text : {euro, smile}) {
    for (size_t cut = 1; cut < text.size(); ++cut) {
      EXPECT_EQ(CompleteUtf8Prefix("ab" + text.substr(0, cut)), 2u) << cut;
    }
    EXPECT_EQ(CompleteUtf8Prefix("ab" + text), 2 + text.size());
  }
  EXPECT_EQ(CompleteUtf8Prefix(""), 0u);
}

TEST(CompleteUtf8Prefix, InvalidBytesAreNotHeldBack) {
  EXPECT_EQ(CompleteUtf8Prefix("a\xFF"), 2u);
  EXPECT_EQ(CompleteUtf8Prefix("a\x80\x80\x80\x80"), 5u);
  EXPECT_EQ(CompleteUtf8Prefix("a\xE0\x80"), 3u);  // overlong: can never become valid
}

TEST(IsValidUtf8, RefusesWhatTheStandardRefuses) {
  EXPECT_TRUE(IsValidUtf8("plain, \xC3\xA9, \xF0\x9F\x98\x80"));
  EXPECT_FALSE(IsValidUtf8("\xC0\xAF"));          // overlong
  EXPECT_FALSE(IsValidUtf8("\xED\xA0\x80"));      // surrogate
  EXPECT_FALSE(IsValidUtf8("\xF4\x90\x80\x80"));  // above U+10FFFF
  EXPECT_FALSE(IsValidUtf8("\xE2\x82"));
}

TEST(RepairUtf8, ReplacesMaximalSubparts) {
  // The example of Unicode 15, table 3-11.
  EXPECT_EQ(RepairUtf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"),
            "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\x41");
}

TEST(JsonEscape, EscapesControlsAndRepairsBytes) {
  EXPECT_EQ(JsonEscape("a\"b\\c\n\x01\xC3\xA9\xFFz"), "a\\\"b\\\\c\\n\\u0001\xC3\xA9\xEF\xBF\xBDz");
  EXPECT_EQ(JsonEscape(std::string_view("\0", 1)), "\\u0000");
}

TEST(CountCodePoints, CountsCharactersNotBytes) {
  EXPECT_EQ(CountCodePoints("a\xE2\x82\xAC\xF0\x9F\x98\x80"), 3u);
}

}  // namespace
}  // namespace cyllm
