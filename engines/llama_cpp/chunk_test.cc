#include "llama_cpp/chunk.h"

#include <gtest/gtest.h>

#include <vector>

namespace cyllm::llama {
namespace {

std::vector<uint32_t> Chunks(uint32_t prompt, uint32_t generated, uint32_t room) {
  std::vector<uint32_t> out;
  while (prompt + generated > 0) {
    out.push_back(Chunk(prompt, generated, room));
    (prompt > 0 ? prompt : generated) -= out.back();
  }
  return out;
}

using List = std::vector<uint32_t>;

TEST(ChunkTest, APromptLeavesNoRestThatWouldNotBeTiled) {
  EXPECT_EQ(Chunks(200, 0, 64), (List{64, 64, 72}));
  EXPECT_EQ(Chunks(100, 0, 64), (List{100}));
  EXPECT_EQ(Chunks(540, 0, 512), (List{476, 64}));
  EXPECT_EQ(Chunks(512, 0, 512), (List{512}));
  EXPECT_EQ(Chunks(127, 0, 70), (List{127}));
}

TEST(ChunkTest, ShortPromptsAndLittleRoomAreNotTiled) {
  EXPECT_EQ(Chunks(63, 0, 512), (List{63}));
  EXPECT_EQ(Chunks(63, 0, 40), (List{40, 23}));
  EXPECT_EQ(Chunks(100, 0, 40), (List{40, 40, 20}));
}

TEST(ChunkTest, WhatWasGeneratedIsComputedApartAndNeverTiled) {
  EXPECT_EQ(Chunks(100, 130, 512), (List{100, 63, 63, 4}));
  EXPECT_EQ(Chunks(10, 130, 40), (List{10, 40, 40, 40, 10}));
  EXPECT_EQ(Chunks(0, 1, 512), (List{1}));
}

TEST(ChunkTest, EveryCutOfEveryLength) {
  for (uint32_t room = kTileRows; room <= 4 * kTileRows; ++room) {
    for (uint32_t prompt = 1; prompt <= 6 * kTileRows; ++prompt) {
      for (const uint32_t chunk : Chunks(prompt, 0, room)) {
        ASSERT_EQ(chunk >= kTileRows, prompt >= kTileRows) << prompt << " in " << room;
        ASSERT_LT(chunk, room + kTileRows);
      }
    }
  }
}

}  // namespace
}  // namespace cyllm::llama
