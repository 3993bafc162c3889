#include "llama_cpp/kv_width.h"

#include <gtest/gtest.h>

#include <map>

namespace cyllm::llama {
namespace {

KvWidth Width(std::map<std::string, std::string> meta, uint64_t n_embd, uint64_t n_head, uint64_t n_head_kv) {
  meta["general.architecture"] = "arch";
  return KvWidthOf(
      [&](const std::string& key) {
        const auto it = meta.find(key);
        return it == meta.end() ? std::string() : it->second;
      },
      n_embd, n_head, n_head_kv);
}

TEST(KvWidth, HeadsAreAsLargeAsTheFileSays) {
  EXPECT_EQ(Width({}, 576, 9, 3), (KvWidth{192, 192}));
  // Qwen3 0.6B, gpt-oss 20B: heads are larger than their part of the embedding.
  EXPECT_EQ(
      Width({{"arch.attention.key_length", "128"}, {"arch.attention.value_length", "128"}}, 1024, 16, 8),
      (KvWidth{1024, 1024}));
  EXPECT_EQ(Width({{"arch.attention.key_length", "64"}, {"arch.attention.value_length", "64"}}, 2880, 64, 8),
            (KvWidth{512, 512}));
  EXPECT_EQ(Width({{"arch.attention.key_length", "192"}}, 2048, 16, 16), (KvWidth{3072, 2048}));
  EXPECT_EQ(Width({}, 576, 0, 0), (KvWidth{576, 576}));
}

TEST(KvWidth, KeysAndValuesInOne) {  // DeepSeek V3
  EXPECT_EQ(Width({{"arch.attention.key_length", "576"},
                   {"arch.attention.value_length", "512"},
                   {"arch.attention.key_length_mla", "192"},
                   {"arch.attention.value_length_mla", "128"}},
                  7168, 128, 1),
            (KvWidth{576, 0}));
}

}  // namespace
}  // namespace cyllm::llama
