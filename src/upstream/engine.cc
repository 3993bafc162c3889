#include "upstream/engine.h"

#include <array>

namespace cyllm::upstream {

namespace {

constexpr auto kNames = std::to_array<EngineName>({
    {"openai", "openai"},
    {"vllm", "vllm"},
    {"sglang", "sglang"},
    {"trtllm", "trtllm"},
    {"llama-server", "llama-server"},
    {"ollama", "ollama"},
    {"mindie", "mindie"},
    {"cy-llm", "cy-llm"},
    {"cuda-vllm", "vllm"},
    {"cuda-vllm-async", "vllm"},
    {"cuda-trt", "trtllm"},
    {"ascend-vllm", "vllm"},
    {"ascend-mindie", "mindie"},
    {"nvidia", "vllm"},
    {"cuda", "vllm"},
    {"ascend", "vllm"},
    {"npu", "vllm"},
});

}  // namespace

std::span<const EngineName> EngineNames() { return kNames; }

Result<const Profile*> ProfileOfEngine(std::string_view engine) {
  std::string known;
  for (const EngineName& name : kNames) {
    if (name.name == engine) return FindProfile(name.profile);
    known += (known.empty() ? "" : ", ") + std::string(name.name);
  }
  return Err(InvalidArgument("engine '" + std::string(engine) + "' is no server; known are: " + known));
}

}  // namespace cyllm::upstream
