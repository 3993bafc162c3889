#include "inference/prefix_hash.h"

#include <gtest/gtest.h>

#include <set>

namespace cyllm {
namespace {

std::vector<uint64_t> Of(const std::string& messages, const std::string& model = "m",
                         const std::string& tools = "") {
  RequestFacts facts;
  facts.model = model;
  PayloadParts parts;
  parts.messages_json = messages;
  parts.tools_json = tools;
  return PrefixHashes(facts, parts);
}

size_t Common(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b) {
  size_t n = 0;
  while (n < std::min(a.size(), b.size()) && a[n] == b[n]) ++n;
  return n;
}

TEST(PrefixHash, EqualBeginningsHaveEqualHashes) {
  std::string first(1000, 'a'), second = first;
  second[700] = 'b';
  EXPECT_EQ(Of(first).size(), 3u);
  EXPECT_EQ(Common(Of(first), Of(second)), 2u);  // bytes 512 to 767 differ
  second = first + std::string(5000, 'c');
  EXPECT_EQ(Common(Of(first), Of(second)), 3u);
  EXPECT_TRUE(Of(std::string(255, 'a')).empty());
}

TEST(PrefixHash, ModelAndToolsCount) {
  const std::string text(600, 'x');
  EXPECT_EQ(Common(Of(text, "m"), Of(text, "n")), 0u);
  EXPECT_EQ(Common(Of(text, "m", "[1]"), Of(text, "m", "[2]")), 0u);
  // Pieces are not blocks of their own: tools and messages are one stream of bytes.
  EXPECT_EQ(Of(text, "m", std::string(300, 't')).size(), 3u);
}

TEST(PrefixHash, AdapterAndTemplateArgumentsCount) {
  RequestFacts facts;
  facts.model = "m";
  PayloadParts parts;
  parts.messages_json = std::string(600, 'x');
  const auto plain = PrefixHashes(facts, parts);
  ASSERT_EQ(plain.size(), 2u);
  parts.template_kwargs_json = R"({"enable_thinking":false})";
  EXPECT_EQ(Common(plain, PrefixHashes(facts, parts)), 0u);
  parts.template_kwargs_json.clear();
  facts.adapter = "a";
  const auto tuned = PrefixHashes(facts, parts);
  EXPECT_EQ(Common(plain, tuned), 0u);
  facts.adapter = "b";
  EXPECT_EQ(Common(tuned, PrefixHashes(facts, parts)), 0u);
}

TEST(PrefixHash, EveryBlockKnowsAllBeforeIt) {
  const auto hashes = Of(std::string(64 * kPrefixBlock, 'z'));
  EXPECT_EQ(std::set<uint64_t>(hashes.begin(), hashes.end()).size(), 64u);
}

// Version 1 is fixed: replicas of different releases must agree.
TEST(PrefixHash, Version1) {
  EXPECT_NE(Hash64("a"), Hash64(std::string("a\0", 2)));
  EXPECT_EQ(Hash64("cy-llm"), 0x5f6949e72f54808eu);
  EXPECT_EQ(Of(std::string(256, 'q')).at(0), 0xf874eca68384ca91u);
}

TEST(PrefixHash, BitsAreSpread) {
  // Of 64 000 scores, each bit is set about half the time.
  int set[64] = {};
  for (uint64_t i = 0; i < 64'000; ++i) {
    const uint64_t mixed = Mix64(i, 7);
    for (int bit = 0; bit < 64; ++bit) set[bit] += (mixed >> bit) & 1;
  }
  for (const int count : set) {
    EXPECT_GT(count, 30'500);
    EXPECT_LT(count, 33'500);
  }
}

}  // namespace
}  // namespace cyllm
