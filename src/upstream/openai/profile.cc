#include "upstream/openai/profile.h"

#include <array>

namespace cyllm::upstream {

namespace {

constexpr uint32_t kTalk = kCapChat | kCapText | kCapTools | kCapJsonSchema;
constexpr uint32_t kOpenAiFields = kLogitBias | kChoices | kSeed | kParallelToolCalls | kOthers;
constexpr uint32_t kAllFields = kOpenAiFields | kTopK | kMinP | kRepetitionPenalty | kMinTokens | kIgnoreEos |
                                kStopTokenIds | kTemplateKwargs;

constexpr auto kProfiles = std::to_array<Profile>({
    {.name = "openai",
     .health = "/v1/models",
     .capabilities = kTalk | kCapTokens | kCapEmbed | kCapLogprobs,
     .fields = kOpenAiFields,
     .max_tokens = "max_completion_tokens",
     .base64 = true},
    // vLLM 0.32. uvicorn's keep-alive is 5 s.
    {.name = "vllm",
     .owned_by = "vllm",
     .health = "/health",
     .capabilities = kTalk | kCapTokens | kCapEmbed | kCapRerank | kCapLogprobs | kCapLora | kCapTokenize,
     .fields = kAllFields,
     .rerank = "/v1/rerank",
     .tokenize = TokenizeForm::kVllm,
     .token_ids = true,
     .continues = true,
     .priority = true,
     .adapter_as_model = true,
     .strict_tools = true,
     .greedy_alone = true,
     .base64 = true,
     .metrics = "/metrics",
     .running = "vllm:num_requests_running",
     .waiting = "vllm:num_requests_waiting",
     .kv_usage = "vllm:kv_cache_usage_perc"},
    {.name = "sglang",
     .owned_by = "sglang",
     .health = "/health",
     .capabilities = kTalk | kCapTokens | kCapEmbed | kCapRerank | kCapLogprobs | kCapLora,
     .fields = kAllFields,
     .rerank = "/v1/rerank",
     .adapter_as_model = true,
     .metrics = "/metrics",
     .running = "sglang:num_running_reqs",
     .waiting = "sglang:num_queue_reqs",
     .kv_usage = "sglang:token_usage"},
    // Its /metrics is JSON that is gone once read: not for us.
    {.name = "trtllm",
     .owned_by = "tensorrt_llm",
     .health = "/health",
     .capabilities = kTalk | kCapTokens | kCapLogprobs,
     .fields = kAllFields & ~kOthers},  // refuses whole requests for any field beyond its own
    // /metrics needs --metrics.
    {.name = "llama-server",
     .owned_by = "llamacpp",
     .health = "/health",
     .capabilities = kTalk | kCapTokens | kCapEmbed | kCapRerank | kCapLogprobs | kCapTokenize,
     .fields = kOpenAiFields | kTopK | kMinP | kRepetitionPenalty | kIgnoreEos | kTemplateKwargs,
     .repetition_penalty = "repeat_penalty",
     .rerank = "/v1/rerank",
     .tokenize = TokenizeForm::kLlamaServer,
     .ids_by_logprobs = true,
     .continues = true,
     .words_only = true,
     .usage_per_choice = true,
     .metrics = "/metrics",
     .running = "llamacpp:requests_processing",
     .waiting = "llamacpp:requests_deferred"},
    {.name = "ollama",
     .owned_by = "library",
     .health = "/api/version",
     .capabilities = kTalk | kCapEmbed,
     .fields = kSeed | kOthers},
    {.name = "mindie",
     .health = "/v2/health/ready",
     .capabilities = kTalk,
     .fields = kSeed | kTopK | kRepetitionPenalty | kIgnoreEos | kStopTokenIds},
    {.name = "cy-llm",
     .owned_by = "cy-llm",
     .health = "/ready",
     .capabilities = kTalk | kCapTokens | kCapEmbed | kCapRerank | kCapLogprobs | kCapTokenize,
     .fields = kAllFields,
     .rerank = "/v1/rerank",
     .tokenize = TokenizeForm::kVllm,
     .priority = true,
     .base64 = true,
     .keep_alive = std::chrono::seconds(75)},
});

}  // namespace

std::span<const Profile> Profiles() { return kProfiles; }

const Profile* FindProfile(std::string_view name) {
  for (const Profile& profile : kProfiles) {
    if (profile.name == name) return &profile;
  }
  return nullptr;
}

const Profile* ProfileOfOwner(std::string_view owned_by) {
  for (const Profile& profile : kProfiles) {
    if (!owned_by.empty() && profile.owned_by == owned_by) return &profile;
  }
  return nullptr;
}

}  // namespace cyllm::upstream
