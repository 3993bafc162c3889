#include "coordinator/routing/prefix_index.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "inference/prefix_hash.h"

namespace cyllm {
namespace {

constexpr TimePoint kStart{std::chrono::hours(1)};

// The chained hashes of a prompt that is named by numbers.
std::vector<uint64_t> Prompt(std::initializer_list<uint64_t> blocks) {
  std::vector<uint64_t> hashes;
  uint64_t state = 1;
  for (const uint64_t block : blocks) hashes.push_back(state = Mix64(state, block));
  return hashes;
}

std::vector<uint64_t> Long(uint64_t name, size_t blocks) {
  std::vector<uint64_t> hashes;
  uint64_t state = name;
  for (size_t i = 0; i < blocks; ++i) hashes.push_back(state = Mix64(state, i));
  return hashes;
}

TEST(PrefixIndex, KnowsHowFarEachWorkerGoes) {
  PrefixIndex index({.max_bytes = 1 << 20});
  index.Sent(Prompt({1, 2, 3, 4}), 7, kStart);
  index.Sent(Prompt({1, 2, 9}), 8, kStart);
  EXPECT_EQ(index.Match(Prompt({1, 2, 3, 5}), kStart), (std::vector<PrefixMatch>{{7, 3}, {8, 2}}));
  EXPECT_EQ(index.Match(Prompt({1, 2, 9, 9}), kStart), (std::vector<PrefixMatch>{{8, 3}, {7, 2}}));
  EXPECT_TRUE(index.Match(Prompt({2, 2, 3}), kStart).empty());
  EXPECT_TRUE(index.Match({}, kStart).empty());
}

TEST(PrefixIndex, ForgetsByTimeAndByReport) {
  PrefixIndex index({.max_bytes = 1 << 20, .expiry = Millis(60'000)});
  index.Sent(Prompt({1, 2}), 7, kStart);
  EXPECT_EQ(index.Match(Prompt({1, 2}), kStart + Millis(59'000)).size(), 1u);
  EXPECT_TRUE(index.Match(Prompt({1, 2}), kStart + Millis(64'000)).empty());
  index.Sent(Prompt({1, 2}), 7, kStart + Millis(64'000));  // again
  EXPECT_EQ(index.Match(Prompt({1, 2}), kStart + Millis(64'000)).size(), 1u);
  const std::vector<uint64_t> both = Prompt({1, 2});
  index.Dropped(std::span(both).subspan(1), 7);
  EXPECT_EQ(index.Match(Prompt({1, 2}), kStart + Millis(64'000)), (std::vector<PrefixMatch>{{7, 1}}));
}

TEST(PrefixIndex, FourteenHoldersOfABlockTheNewestOnes) {
  PrefixIndex index({.max_bytes = 1 << 20});
  for (uint32_t slot = 1; slot <= 20; ++slot) index.Sent(Prompt({1}), slot, kStart + Millis(4'000) * slot);
  const auto matches = index.Match(Prompt({1}), kStart + Millis(90'000));
  ASSERT_EQ(matches.size(), 14u);
  for (const PrefixMatch& match : matches) EXPECT_GT(match.slot, 6u);
}

// A system prompt that every worker has met, and conversations that each of them has with one.
TEST(PrefixIndex, WhoHoldsMoreIsFoundAmongManyThatHoldTheBeginning) {
  PrefixIndex index({.max_bytes = 1 << 20});
  for (uint32_t slot = 1; slot <= 40; ++slot)
    index.Sent(Prompt({1, 2, 100 + slot}), slot, kStart + Millis(4'000) * slot);
  const TimePoint now = kStart + Millis(200'000);
  for (uint32_t slot = 1; slot <= 40; ++slot) {
    const auto matches = index.Match(Prompt({1, 2, 100 + slot, 7}), now);
    ASSERT_FALSE(matches.empty());
    EXPECT_EQ(matches[0], (PrefixMatch{slot, 3}));
  }
}

TEST(PrefixIndex, SlotsPastSixteenBitsAreFound) {
  PrefixIndex index({.max_bytes = 1 << 20});
  index.Sent(Prompt({1}), 70'000, kStart);
  EXPECT_EQ(index.Match(Prompt({1}), kStart), (std::vector<PrefixMatch>{{PrefixIndex::Short(70'000), 1}}));
}

// A soak of churn: ten million blocks through an index of 1 MiB. Its size is its bound, and what was sent
// last is still found.
TEST(PrefixIndex, ChurnDoesNotMakeItGrow) {
  PrefixIndex index({.max_bytes = 1 << 20});
  const size_t bytes = index.bytes();
  EXPECT_LE(bytes, size_t{1} << 20);
  std::mt19937_64 random(1);
  size_t found = 0;
  constexpr int kPrompts = 100'000;
  for (int i = 0; i < kPrompts; ++i) {
    const auto prompt = Long(random(), 100);
    const auto slot = static_cast<uint32_t>(random() % 64 + 1);
    const TimePoint now = kStart + Millis(10) * i;
    index.Sent(prompt, slot, now);
    const auto matches = index.Match(prompt, now);
    found += !matches.empty() && matches[0].slot == slot && matches[0].blocks == 100;
  }
  EXPECT_EQ(index.bytes(), bytes);
  EXPECT_GT(found, size_t{kPrompts} * 99 / 100);
}

TEST(PrefixIndex, ManyThreads) {
  PrefixIndex index({.max_bytes = 1 << 16});
  std::vector<std::thread> threads;
  for (uint32_t t = 1; t <= 4; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 2'000; ++i) {
        index.Sent(Long(i % 50, 20), t, kStart);
        for (const PrefixMatch& match : index.Match(Long(i % 50, 20), kStart)) {
          EXPECT_LE(match.blocks, 20u);
          EXPECT_LE(match.slot, 4u);
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

// The figure of the issue: a prompt of 4k tokens (64 blocks) matched in 5 us or less with 64 workers.
// Printed, not asserted: machines differ.
TEST(PrefixIndex, PrintsWhatAMatchCosts) {
  PrefixIndex index({});
  std::vector<std::vector<uint64_t>> prompts;
  for (uint64_t i = 0; i < 1'024; ++i) {
    prompts.push_back(Long(i, 64));
    for (uint32_t k = 0; k < 3; ++k)
      index.Sent(prompts.back(), static_cast<uint32_t>((i + k) % 64 + 1), kStart);
  }
  size_t blocks = 0;
  const TimePoint begin = Clock::now();
  for (const auto& prompt : prompts) {
    const auto matches = index.Match(prompt, kStart);
    if (!matches.empty()) blocks += matches[0].blocks;
  }
  const double us = std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
  std::printf("match of 64 blocks, 64 workers, 3 holders each, 65536 blocks held: %.2f us\n",
              us / static_cast<double>(prompts.size()));
  EXPECT_GT(blocks, 64u * 1'000);
}

}  // namespace
}  // namespace cyllm
