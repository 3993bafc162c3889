#include "llama_cpp/prefix_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

namespace cyllm::llama {
namespace {

using ::testing::ElementsAre;

std::vector<Token> T(const std::string& text) { return {text.begin(), text.end()}; }

TEST(PrefixTree, FindsTheLongestPrefixAndWhoHoldsIt) {
  PrefixTree tree(4);
  tree.Append(0, T("system: be kind. hello"));
  tree.Append(1, T("system: be kind. what"));
  tree.Append(2, T("other"));
  const auto shared = tree.Find(0, T("system: be kind. bye"));
  EXPECT_EQ(shared.length, 17u);
  EXPECT_THAT(shared.sequences, ElementsAre(0, 1));
  const auto one = tree.Find(0, T("system: be kind. when"));
  EXPECT_EQ(one.length, 19u);
  EXPECT_THAT(one.sequences, ElementsAre(1));
  EXPECT_EQ(tree.Find(0, T("x")).length, 0u);
  EXPECT_EQ(tree.own(0), 5u);
  EXPECT_EQ(tree.own(2), 5u);
}

TEST(PrefixTree, ASequenceThatGrowsPastAnother) {
  PrefixTree tree(2);
  tree.Append(0, T("abcdef"));
  for (const char c : std::string("abcdefgh")) tree.Append(1, T({c}));
  EXPECT_EQ(tree.own(0), 0u);
  EXPECT_EQ(tree.own(1), 2u);
  EXPECT_EQ(tree.nodes(), 2u);  // no chain of single tokens stays
  tree.Cut(0, 0);
  EXPECT_EQ(tree.own(1), 8u);
}

TEST(PrefixTree, CutAndCopy) {
  PrefixTree tree(3);
  tree.Append(0, T("abcdef"));
  tree.Copy(0, 1);
  EXPECT_EQ(tree.own(0), 0u);
  tree.Cut(1, 3);
  EXPECT_EQ(tree.own(0), 3u);
  tree.Append(1, T("xyz"));
  EXPECT_THAT(tree.Find(0, T("abcxyz")).sequences, ElementsAre(1));
  tree.Cut(0, 0);
  tree.Cut(1, 0);
  EXPECT_EQ(tree.nodes(), 0u);
}

TEST(PrefixTree, AdaptersShareNothing) {
  PrefixTree tree(3);
  tree.Append(0, T("abc"));
  tree.Begin(1, 2);
  tree.Copy(1, 2);  // still without a token, but what it begins with is settled
  tree.Append(1, T("abc"));
  tree.Append(2, T("ab"));
  EXPECT_THAT(tree.Find(0, T("abc")).sequences, ElementsAre(0));
  EXPECT_THAT(tree.Find(2, T("abc")).sequences, ElementsAre(1));
  EXPECT_THAT(tree.Find(2, T("ab")).sequences, ElementsAre(1, 2));
  EXPECT_EQ(tree.Find(1, T("abc")).length, 0u);
  EXPECT_EQ(tree.Find(7, T("abc")).length, 0u);
  EXPECT_EQ(tree.own(0), 3u);
}

// Against the plain way to do it: every sequence a string.
TEST(PrefixTree, RandomOperationsAgreeWithStrings) {
  constexpr uint32_t kSequences = 9;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](uint32_t n) { return random() % n; };
    PrefixTree tree(kSequences);
    std::vector<std::string> plain(kSequences);
    std::vector<uint32_t> adapter(kSequences);
    const auto common = [](const std::string& a, const std::string& b) {
      return static_cast<uint32_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
    };
    for (int i = 0; i < 200; ++i) {
      const uint32_t s = below(kSequences);
      const uint32_t what = below(10);
      if (plain[s].empty() && what < 3) tree.Begin(s, adapter[s] = below(3));
      if (what < 6) {
        std::string more;
        for (uint32_t n = below(4); n > 0; --n) more += static_cast<char>('a' + below(2));
        tree.Append(s, T(more));
        plain[s] += more;
      } else if (what < 8) {
        const auto length = below(static_cast<uint32_t>(plain[s].size()) + 1);
        tree.Cut(s, length);
        plain[s].resize(length);
      } else {
        const uint32_t to = below(kSequences);
        if (to == s) continue;
        tree.Cut(to, 0);
        tree.Copy(s, to);
        plain[to] = plain[s];
        adapter[to] = adapter[s];
      }
      std::string wanted = plain[below(kSequences)].substr(0, below(9));
      wanted += static_cast<char>('a' + below(2));
      const uint32_t with = below(3);
      uint32_t best = 0;
      for (uint32_t k = 0; k < kSequences; ++k)
        if (adapter[k] == with) best = std::max(best, common(plain[k], wanted));
      std::vector<uint32_t> holders;
      for (uint32_t k = 0; best > 0 && k < kSequences; ++k)
        if (adapter[k] == with && common(plain[k], wanted) == best) holders.push_back(k);
      const auto found = tree.Find(with, T(wanted));
      ASSERT_EQ(found.length, best) << "seed " << seed << " step " << i;
      ASSERT_EQ(found.sequences, holders) << "seed " << seed << " step " << i;
      uint32_t longest = 0;
      for (uint32_t k = 0; k < kSequences; ++k)
        if (k != s && adapter[k] == adapter[s]) longest = std::max(longest, common(plain[k], plain[s]));
      ASSERT_EQ(tree.length(s), plain[s].size());
      ASSERT_EQ(tree.own(s), plain[s].size() - longest) << "seed " << seed << " step " << i;
      ASSERT_LE(tree.nodes(), 2 * kSequences);
    }
    for (uint32_t s = 0; s < kSequences; ++s) tree.Cut(s, 0);
    ASSERT_EQ(tree.nodes(), 0u);
  }
}

}  // namespace
}  // namespace cyllm::llama
