#include "gateway/access/tokens.h"

#include <gtest/gtest.h>

namespace cyllm {
namespace {

TEST(TokensTest, TokenOf) {
  EXPECT_EQ(TokenOf("Bearer abc", ""), "abc");
  EXPECT_EQ(TokenOf("bearer   My API Key ", ""), "My API Key");
  EXPECT_EQ(TokenOf("BEARER x", "y"), "x");
  EXPECT_EQ(TokenOf("", " k "), "k");
  EXPECT_EQ(TokenOf("Basic abc", ""), "");
  EXPECT_EQ(TokenOf("Bearer", ""), "");
  EXPECT_EQ(TokenOf("Bearer ", ""), "");
}

TEST(TokensTest, Allows) {
  const TokenSet open({});
  EXPECT_TRUE(open.open());
  EXPECT_TRUE(open.Allows(""));
  EXPECT_FALSE(TokenSet({""}).Allows(""));
  const TokenSet two({"one", "two"});
  EXPECT_FALSE(two.open());
  EXPECT_TRUE(two.Allows("one"));
  EXPECT_TRUE(two.Allows("two"));
  for (const char* wrong : {"", "on", "onex", "One", "one two"}) EXPECT_FALSE(two.Allows(wrong)) << wrong;
}

}  // namespace
}  // namespace cyllm
