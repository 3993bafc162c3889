// What differs between the servers that speak OpenAI's API: routes, fields beyond OpenAI's, names of metrics,
// habits. Data; the code that uses it knows no server by name.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string_view>

#include "inference/request.h"

namespace cyllm::upstream {

// Request fields that not every server knows. One that we know, a request asks for and the server lacks is
// refused, never dropped; those we do not know are passed on where kOthers is set, else dropped.
enum Field : uint32_t {
  kTopK = 1u << 0,
  kMinP = 1u << 1,
  kRepetitionPenalty = 1u << 2,
  kMinTokens = 1u << 3,
  kIgnoreEos = 1u << 4,
  kStopTokenIds = 1u << 5,
  kLogitBias = 1u << 6,
  kChoices = 1u << 7,  // n
  kSeed = 1u << 8,
  kTemplateKwargs = 1u << 9,
  kParallelToolCalls = 1u << 10,
  kOthers = 1u << 11,  // any: what it does not know it ignores, or refuses as its own clients expect
};

enum class TokenizeForm : uint8_t { kNone, kVllm, kLlamaServer };

struct Profile {
  std::string_view name;
  std::string_view owned_by;  // in /v1/models, where it tells the server; else empty
  std::string_view health;    // GET: 200 when it serves
  uint32_t capabilities = 0;  // Capability bits that the server has with a model that has them
  uint32_t fields = 0;        // Field bits
  std::string_view max_tokens = "max_tokens";  // the chat field's name
  std::string_view repetition_penalty = "repetition_penalty";
  std::string_view rerank;  // route; empty: none
  TokenizeForm tokenize = TokenizeForm::kNone;
  bool token_ids = false;         // `return_token_ids`
  bool ids_by_logprobs = false;   // ids come with `n_probs`, in its logprobs
  bool continues = false;         // goes on from token ids, and tells those of a prompt: see continuation.h
  bool priority = false;          // `priority`, lower first
  bool adapter_as_model = false;  // an adapter is asked for by its name as the model
  bool strict_tools = false;      // arguments of a forced call follow the schema only with `strict`
  bool greedy_alone = false;      // refuses n > 1 at temperature 0
  bool words_only = false;        // of tool_choice it knows the words, not the object that names a tool
  bool usage_per_choice = false;  // usage comes once for each choice
  bool base64 = false;            // embeddings as base64: exact and shorter
  // Prometheus names of the load; empty: none.
  std::string_view metrics, running, waiting, kv_usage;
  // The server closes a connection that was idle for so long; ours are closed a second before.
  std::chrono::seconds keep_alive{5};
};

// openai, vllm, sglang, trtllm, llama-server, ollama, mindie, cy-llm.
std::span<const Profile> Profiles();
const Profile* FindProfile(std::string_view name);
// By the `owned_by` of its models; null: any server.
const Profile* ProfileOfOwner(std::string_view owned_by);

}  // namespace cyllm::upstream
