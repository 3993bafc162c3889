#include "llama_cpp/sequence_state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace cyllm::llama {
namespace {

// As llama.cpp writes it: magic, sequence, streams, counts; the cells are the letters.
std::vector<uint8_t> Written(uint32_t sequence, uint32_t streams, const std::string& cells) {
  std::vector<uint8_t> out;
  const auto put = [&](uint32_t v) {
    out.resize(out.size() + 4);
    std::memcpy(out.data() + out.size() - 4, &v, 4);
  };
  put(0x1234);
  put(sequence);
  put(streams);
  for (uint32_t s = 0; s < streams; ++s) {
    put(s == sequence ? static_cast<uint32_t>(cells.size()) : 0);
    if (s == sequence) out.insert(out.end(), cells.begin(), cells.end());
  }
  return out;
}

TEST(SequenceState, OfOneContextForAnother) {
  for (const uint32_t sequence : {0u, 2u, 4u}) {
    std::vector<uint8_t> state = Written(sequence, 5, "cells");
    ASSERT_TRUE(Generalise(sequence, 5, &state));
    for (const uint32_t streams : {1u, 3u, 256u}) {
      ASSERT_TRUE(Fit(streams, state));
      // What the other context reads: as if its first sequence had been written there.
      std::vector<uint8_t> expected = Written(0, streams, "cells");
      std::memcpy(expected.data() + 4, &sequence, 4);
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), state.begin())) << streams;
    }
  }
}

TEST(SequenceState, AnotherFormIsNotTouched) {
  std::vector<uint8_t> state = Written(2, 5, "cells");
  EXPECT_FALSE(Generalise(1, 5, &state));  // cells where there should be none
  EXPECT_FALSE(Generalise(2, 4, &state));
  EXPECT_FALSE(Generalise(5, 5, &state));
  EXPECT_EQ(state, Written(2, 5, "cells"));
  state.resize(20);
  EXPECT_FALSE(Generalise(2, 5, &state));
  EXPECT_FALSE(Fit(5, state));
}

}  // namespace
}  // namespace cyllm::llama
