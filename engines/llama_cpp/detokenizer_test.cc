#include "llama_cpp/detokenizer.h"

#include <gtest/gtest.h>

namespace cyllm::llama {
namespace {

TEST(Detokenizer, HoldsUnfinishedCodePoints) {
  Detokenizer d;
  EXPECT_EQ(d.Push("a\xF0\x9F"), "a");
  EXPECT_EQ(d.Push("\x98"), "");
  EXPECT_EQ(d.Push("\x80z"), "\xF0\x9F\x98\x80z");
  EXPECT_EQ(d.Flush(), "");
}

TEST(Detokenizer, ByteByByteGivesTheSameText) {
  const std::string text = "é日本\xF0\x9F\x98\x80 ok";
  Detokenizer d;
  std::string out;
  for (const char c : text) {
    const std::string piece = d.Push(std::string(1, c));
    EXPECT_TRUE(piece.empty() || (static_cast<uint8_t>(piece[0]) & 0xC0) != 0x80);
    out += piece;
  }
  EXPECT_EQ(out + d.Flush(), text);
}

TEST(Detokenizer, ReplacesWhatIsNoUtf8) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(Detokenizer().Push("\xFFx"), r + "x");
  EXPECT_EQ(Detokenizer().Push("\xC3("), r + "(");
  EXPECT_EQ(Detokenizer().Push("\xC0\x80"), r + r);
  EXPECT_EQ(Detokenizer().Push("\xED\xA0\x80"), r + r + r);  // a surrogate
  EXPECT_EQ(Detokenizer().Push("\xF4\x90\x80\x80"), r + r + r + r);
  Detokenizer d;
  EXPECT_EQ(d.Push("\xE6\x97"), "");
  EXPECT_EQ(d.Push("a"), r + "a");
  EXPECT_EQ(d.Push("\xE6"), "");
  EXPECT_EQ(d.Flush(), r);
  EXPECT_EQ(d.Flush(), "");
}

}  // namespace
}  // namespace cyllm::llama
