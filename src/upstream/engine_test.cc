#include "upstream/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cyllm::upstream {
namespace {

using testing::HasSubstr;

TEST(EngineNames, TheContractsMeanServers) {
  for (const auto& [engine, profile] :
       std::initializer_list<std::pair<const char*, const char*>>{{"cuda-vllm", "vllm"},
                                                                  {"cuda-vllm-async", "vllm"},
                                                                  {"cuda-trt", "trtllm"},
                                                                  {"ascend-vllm", "vllm"},
                                                                  {"ascend-mindie", "mindie"},
                                                                  {"nvidia", "vllm"},
                                                                  {"cuda", "vllm"},
                                                                  {"ascend", "vllm"},
                                                                  {"npu", "vllm"}}) {
    const auto found = ProfileOfEngine(engine);
    ASSERT_TRUE(found) << engine;
    EXPECT_EQ((*found)->name, profile) << engine;
  }
}

TEST(EngineNames, EveryProfileHasItsOwn) {
  for (const Profile& profile : Profiles()) {
    const auto found = ProfileOfEngine(profile.name);
    ASSERT_TRUE(found) << profile.name;
    EXPECT_EQ(*found, &profile);
  }
}

TEST(EngineNames, AnUnknownOneIsToldTheKnown) {
  const auto found = ProfileOfEngine("llama_cpp");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, Code::kInvalidArgument);
  EXPECT_THAT(found.error().message, HasSubstr("'llama_cpp'"));
  EXPECT_THAT(found.error().message, HasSubstr("cuda-trt"));
}

}  // namespace
}  // namespace cyllm::upstream
