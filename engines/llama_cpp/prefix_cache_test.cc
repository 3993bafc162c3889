#include "llama_cpp/prefix_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "llama_cpp/fake_model.h"

namespace cyllm::llama {
namespace {

using ::testing::ElementsAre;
using testing::FakeDecoder;
using ::testing::IsEmpty;

// 40 tokens that begin a prompt, and one that tells it from others.
std::vector<Token> Tokens(char begin, char end) {
  std::vector<Token> out(40, begin);
  out.push_back(end);
  return out;
}

class PrefixCacheTest : public ::testing::Test {
 protected:
  void Make(uint32_t running, uint32_t spare, bool reuse = true) {
    decoder_ = std::make_unique<FakeDecoder>(running, 256, spare);
    decoder_->names = {"a", "b"};
    cache_ = std::make_unique<PrefixCache>(*decoder_, running, reuse);
  }
  // Acquires and computes what is missing.
  PrefixCache::Place Run(const std::vector<Token>& tokens, uint32_t adapter = 0) {
    const PrefixCache::Place place = cache_->Acquire(adapter, tokens);
    std::vector<Row> rows;
    for (uint32_t i = place.reused; i < tokens.size(); ++i)
      rows.push_back({place.sequence, i, tokens[i], false});
    decoder_->SetAdapter(adapter);
    EXPECT_EQ(decoder_->Decode(rows, never_), DecodeResult::kOk);
    cache_->Append(place.sequence, std::span(tokens).subspan(place.reused));
    EXPECT_EQ(decoder_->held(place.sequence), tokens);
    return place;
  }

  std::unique_ptr<FakeDecoder> decoder_;
  std::unique_ptr<PrefixCache> cache_;
  const std::atomic<bool> never_ = false;
};

TEST_F(PrefixCacheTest, AFinishedSequenceIsTakenOverInPlace) {
  Make(4, 0);
  Run(Tokens('a', 'x'));
  cache_->Release(0);
  const auto place = Run(Tokens('a', 'y'));
  EXPECT_EQ(place.sequence, 0u);
  EXPECT_EQ(place.reused, 40u);
  EXPECT_EQ(decoder_->copied, 0u);
}

TEST_F(PrefixCacheTest, ARunningSequenceIsCopied) {
  Make(4, 0);
  Run(Tokens('a', 'x'));
  const auto place = Run(Tokens('a', 'y'));
  EXPECT_EQ(place.sequence, 1u);
  EXPECT_EQ(place.reused, 40u);
  EXPECT_EQ(decoder_->copied, 1u);
  EXPECT_EQ(decoder_->held(0), Tokens('a', 'x'));
}

TEST_F(PrefixCacheTest, ShortPrefixesAreNotWorthACopy) {
  Make(4, 0);
  Run({'a', 'b', 'c'});
  EXPECT_EQ(Run({'a', 'b', 'd'}).reused, 0u);
  cache_->Release(0);
  EXPECT_EQ(Run({'a', 'b', 'e'}).reused, 2u);  // in place it costs nothing
}

TEST_F(PrefixCacheTest, WhatIsInTheWayMoves) {
  Make(2, 2);
  for (const char c : {'a', 'b', 'c'}) {
    Run(Tokens(c, 'x'));
    cache_->Release(static_cast<uint32_t>(c - 'a'));  // an empty one first
  }
  EXPECT_EQ(Run(Tokens('b', 'y')).sequence, 1u);
  EXPECT_EQ(decoder_->copied, 0u);
  // Its neighbour is wanted: what is there moves into the empty one.
  EXPECT_EQ(Run(Tokens('d', 'x')).sequence, 0u);
  EXPECT_EQ(decoder_->held(3), Tokens('a', 'x'));
  EXPECT_EQ(cache_->evicted(), 1u);  // b's last token
  EXPECT_EQ(cache_->cached(), 82u);
}

TEST_F(PrefixCacheTest, LeastRecentlyUsedIsForgotten) {
  Make(1, 2);
  for (const char c : {'a', 'b', 'c', 'd'}) cache_->Release(Run(Tokens(c, 'x')).sequence);
  EXPECT_EQ(cache_->evicted(), 41u);
  EXPECT_EQ(cache_->Held(0, Tokens('a', 'x')), 0u);
  EXPECT_EQ(cache_->Held(0, Tokens('b', 'x')), 41u);
  EXPECT_EQ(cache_->Held(0, Tokens('c', 'x')), 41u);
  cache_->Release(Run(Tokens('b', 'y')).sequence);  // used again
  cache_->Release(Run(Tokens('e', 'x')).sequence);
  EXPECT_EQ(cache_->Held(0, Tokens('b', 'x')), 40u);
  EXPECT_EQ(cache_->Held(0, Tokens('c', 'x')), 0u);
}

TEST_F(PrefixCacheTest, WhatAnotherHoldsTooIsForgottenFirst) {
  Make(2, 1);
  Run(Tokens('z', 'x'));
  cache_->Release(0);     // the oldest, but nobody else has it
  Run(Tokens('a', 'x'));  // in 1
  Run(Tokens('a', 'x'));  // a copy in 2
  cache_->Release(1);
  cache_->Release(2);
  Run(Tokens('b', 'x'));
  EXPECT_EQ(cache_->Held(0, Tokens('z', 'x')), 41u);
  EXPECT_EQ(cache_->Held(0, Tokens('a', 'x')), 41u);
  EXPECT_EQ(cache_->evicted(), 0u);
}

TEST_F(PrefixCacheTest, GapsAreClosed) {
  Make(4, 0);
  for (const char c : {'a', 'b', 'c', 'd'}) Run(Tokens(c, 'x'));
  cache_->Release(1);
  const auto moves = cache_->Compact();
  ASSERT_EQ(moves.size(), 1u);
  EXPECT_EQ(moves[0].from, 3u);
  EXPECT_EQ(moves[0].to, 1u);
  EXPECT_EQ(decoder_->held(1), Tokens('d', 'x'));
  EXPECT_THAT(decoder_->held(3), IsEmpty());
  EXPECT_TRUE(cache_->Compact().empty());
}

// The fake decoder checks that what a sequence holds was computed with one adapter.
TEST_F(PrefixCacheTest, NothingIsSharedBetweenAdapters) {
  Make(4, 4);
  Run(Tokens('a', 'x'), 1);
  cache_->Release(0);
  EXPECT_EQ(cache_->Held(0, Tokens('a', 'x')), 0u);
  EXPECT_EQ(cache_->Held(2, Tokens('a', 'x')), 0u);
  EXPECT_EQ(cache_->Held(1, Tokens('a', 'x')), 41u);
  EXPECT_FALSE(cache_->Donor(2, Tokens('a', 'x')));
  EXPECT_EQ(Run(Tokens('a', 'x'), 2).reused, 0u);
  EXPECT_EQ(Run(Tokens('a', 'x')).reused, 0u);
  EXPECT_EQ(Run(Tokens('a', 'y'), 1).reused, 40u);
  EXPECT_EQ(Run(Tokens('a', 'y'), 2).reused, 40u);
}

TEST_F(PrefixCacheTest, SequencesOfAnAdapterAreNeighbours) {
  Make(6, 0);
  const auto at = [&](char c, uint32_t adapter) { return Run(Tokens(c, 'x'), adapter).sequence; };
  EXPECT_EQ(at('a', 0), 0u);
  EXPECT_EQ(at('b', 1), 5u);
  EXPECT_EQ(at('c', 0), 1u);
  EXPECT_EQ(at('d', 1), 4u);
  EXPECT_EQ(at('e', 0), 2u);
  EXPECT_FALSE(cache_->gap());
  EXPECT_EQ(at('f', 2), 3u);
  cache_->Release(1);
  cache_->Release(3);
  EXPECT_TRUE(cache_->gap());  // of adapter 0 only
  const auto moves = cache_->Compact();
  ASSERT_EQ(moves.size(), 1u);
  EXPECT_EQ(moves[0].from, 2u);
  EXPECT_EQ(moves[0].to, 1u);
  EXPECT_EQ(cache_->Held(0, Tokens('e', 'x')), 41u);
  EXPECT_EQ(cache_->Held(1, Tokens('e', 'x')), 0u);
}

// Which adapter a sequence is for is settled before it holds anything.
TEST_F(PrefixCacheTest, AnEmptySequenceMovesWithItsAdapter) {
  Make(3, 0);
  Run(Tokens('a', 'x'), 1);
  Run(Tokens('b', 'x'), 1);
  const auto place = cache_->Acquire(1, Tokens('c', 'x'));
  ASSERT_EQ(place.sequence, 2u);
  cache_->Release(1);
  ASSERT_EQ(cache_->Compact().size(), 1u);
  const std::vector<Token> tokens = Tokens('c', 'x');
  cache_->Append(1, tokens);
  EXPECT_EQ(cache_->Held(1, tokens), 41u);
  EXPECT_EQ(cache_->Held(0, tokens), 0u);
}

TEST_F(PrefixCacheTest, ModelsThatCannotBeCutStartFromNothing) {
  decoder_ = std::make_unique<FakeDecoder>(2, 256);
  decoder_->copies = false;
  cache_ = std::make_unique<PrefixCache>(*decoder_, 2, true);
  EXPECT_FALSE(cache_->reuse());
  Run(Tokens('a', 'x'));
  cache_->Release(0);
  EXPECT_THAT(decoder_->held(0), IsEmpty());
  EXPECT_EQ(Run(Tokens('a', 'x')).reused, 0u);
  Run(Tokens('a', 'x'));
  cache_->Release(0);
  EXPECT_TRUE(cache_->Compact().empty());
  EXPECT_EQ(decoder_->copied, 0u);
}

TEST_F(PrefixCacheTest, TellsWhichPrefixesItHolds) {
  Make(1, 1);
  const std::vector<uint64_t> a = {1, 2, 3, 4}, b = {1, 2, 9};
  Run(Tokens('a', 'x'));
  cache_->Name(0, a, 41);
  EXPECT_THAT(cache_->names().Take().added, ::testing::UnorderedElementsAre(1, 2, 3, 4));
  cache_->Release(0);
  Run(Tokens('a', 'y'));  // the last block is gone
  cache_->Name(0, b, 41);
  const auto changes = cache_->names().Take();
  EXPECT_THAT(changes.added, ElementsAre(9));
  EXPECT_THAT(changes.removed, ::testing::UnorderedElementsAre(3, 4));
  cache_->Cut(0, 0);
  const auto rest = cache_->names().Take();
  EXPECT_THAT(rest.added, IsEmpty());
  EXPECT_THAT(rest.removed, ::testing::UnorderedElementsAre(1, 2, 9));
}

}  // namespace
}  // namespace cyllm::llama
