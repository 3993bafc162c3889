#include "upstream/process/launch.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cyllm::upstream {
namespace {

using testing::HasSubstr;
using Env = std::map<std::string, std::string>;

Result<Launch> Make(const char* profile, const std::string& options, const Env& env = {}) {
  LaunchRequest request{"org/model", "m", options, "/run/s.sock", 4321, Millis(10'000)};
  return MakeLaunch(*FindProfile(profile), request,
                    [&](const std::string& name) -> std::optional<std::string> {
                      const auto found = env.find(name);
                      return found == env.end() ? std::nullopt : std::optional(found->second);
                    });
}

std::string Line(const char* profile, const std::string& options, const Env& env = {}) {
  const auto launch = Make(profile, options, env);
  return launch ? fmt::format("{}", fmt::join(launch->child.command, " ")) : launch.error().message;
}

TEST(Launch, Vllm) {
  EXPECT_EQ(Line("vllm", "{}"),
            "vllm serve org/model --served-model-name m --uds /run/s.sock --enable-prompt-tokens-details "
            "--shutdown-timeout 10");
  const std::string line = Line(
      "vllm",
      R"({"tensor_parallel_size":2,"gpu_memory_utilization":0.75,"max_model_len":4096,"quantization":"awq",
          "enable_prefix_caching":false,"kv_cache_dtype":"fp8","tool_call_parser":"hermes","adapter_path":"/a",
          "args":["--seed","1"]})");
  for (const char* part :
       {"--tensor-parallel-size 2", "--gpu-memory-utilization 0.75", "--max-model-len 4096",
        "--quantization awq", "--no-enable-prefix-caching", "--kv-cache-dtype fp8",
        "--enable-auto-tool-choice --tool-call-parser hermes", "--enable-lora --lora-modules adapter=/a"})
    EXPECT_THAT(line, HasSubstr(part));
  EXPECT_TRUE(line.ends_with("--seed 1"));
  EXPECT_THAT(Line("vllm", R"({"use_4bit":true})"), HasSubstr("--quantization bitsandbytes"));
  EXPECT_THAT(Line("vllm", R"({"adapters":{"poet":"/p","cook":"/c"},"adapter_path":"/a"})"),
              HasSubstr("--enable-lora --lora-modules adapter=/a poet=/p cook=/c"));
  EXPECT_THAT(Line("vllm", R"({"adapters":["/p"]})"), HasSubstr("'adapters' must be"));
  EXPECT_THAT(Line("vllm", R"({"quantization":"none"})"), testing::Not(HasSubstr("--quantization")));
}

TEST(Launch, VariablesStandInForOptions) {
  const Env env = {{"VLLM_TENSOR_PARALLEL_SIZE", "4"}, {"VLLM_MAX_MODEL_LEN", "512"}};
  const std::string line = Line("vllm", R"({"max_model_len":1024})", env);
  EXPECT_THAT(line, HasSubstr("--tensor-parallel-size 4"));
  EXPECT_THAT(line, HasSubstr("--max-model-len 1024"));
  EXPECT_THAT(Line("vllm", "{}", {{"VLLM_TENSOR_PARALLEL_SIZE", "many"}}),
              HasSubstr("'tensor_parallel_size' must be"));
}

TEST(Launch, OtherServers) {
  EXPECT_EQ(Line("sglang", R"({"tensor_parallel_size":2,"enable_prefix_caching":false})"),
            "python3 -m sglang.launch_server --model-path org/model --served-model-name m --host 127.0.0.1 "
            "--port 4321 "
            "--tp-size 2 --disable-radix-cache --enable-metrics");
  EXPECT_EQ(Line("trtllm", R"({"max_batch_size":8})"),
            "trtllm-serve serve org/model --host 127.0.0.1 --port 4321 --max_batch_size 8");
  EXPECT_EQ(Line("llama-server", R"({"max_model_len":2048})"),
            "llama-server --model org/model --alias m --host /run/s.sock --ctx-size 2048 --metrics");
  EXPECT_EQ(Make("sglang", "{}")->url, "http://127.0.0.1:4321");
  EXPECT_EQ(Make("vllm", "{}")->url, "unix:/run/s.sock");
  EXPECT_THAT(Line("mindie", "{}"), HasSubstr("give its 'url'"));
}

TEST(Launch, AnotherProgram) {
  EXPECT_TRUE(Line("vllm", R"({"command":"/venv/bin/vllm"})").starts_with("/venv/bin/vllm serve org/model "));
  EXPECT_TRUE(
      Line("vllm", R"({"command":["docker","run","vllm"]})").starts_with("docker run vllm org/model "));
  EXPECT_EQ(Make("vllm", R"({"env":{"VLLM_X":"1"}})")->child.env.at("VLLM_X"), "1");
}

TEST(Launch, WrongOptionsAreNamed) {
  for (const char* options :
       {R"({"tensor_parallel_size":0})", R"({"gpu_memory_utilization":1.5})", R"({"quantization":7})",
        R"({"quantization":"--x"})", R"({"enable_prefix_caching":"yes"})", R"({"use_4bit":1})",
        R"({"use_4bit":true,"quantization":"awq"})", R"({"args":"--x"})", R"({"command":[]})",
        R"({"env":{"A":1}})", R"({"tool_call_parser":1})"}) {
    const auto launch = Make("vllm", options);
    ASSERT_FALSE(launch) << options;
    EXPECT_EQ(launch.error().code, Code::kInvalidArgument) << options;
  }
}

}  // namespace
}  // namespace cyllm::upstream
