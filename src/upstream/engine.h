// Names of engines that are servers: profiles, and the contract's engine types.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "upstream/openai/profile.h"

namespace cyllm::upstream {

struct EngineName {
  std::string_view name;
  std::string_view profile;
};

// The profiles' own names, and the contract's: cuda-vllm, cuda-vllm-async, ascend-vllm, nvidia, cuda, ascend
// and npu are vLLM, cuda-trt is TensorRT-LLM's server, ascend-mindie MindIE's.
std::span<const EngineName> EngineNames();

// INVALID_ARGUMENT with the names that there are.
Result<const Profile*> ProfileOfEngine(std::string_view engine);

}  // namespace cyllm::upstream
