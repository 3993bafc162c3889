// A call of OpenAI's inference endpoints: what the body says, as requests for the graph.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "inference/request.h"

namespace cyllm::openai {

struct Limits {
  uint32_t max_choices = 16;  // n, and prompts × n
};

struct Call {
  enum class Kind { kChat, kCompletion };
  Kind kind = Kind::kChat;
  std::string model;              // as asked for; "default" when absent
  std::vector<Request> requests;  // one; completions: one per prompt
  uint32_t n = 1;                 // choices of each
  bool stream = false;
  bool include_usage = false;        // stream_options
  bool continuous_usage = false;     // usage in every chunk (stream_options.continuous_usage_stats)
  std::optional<uint32_t> logprobs;  // wanted; how many alternatives

  uint32_t choices() const { return n * static_cast<uint32_t>(requests.size()); }
};

// POST /v1/chat/completions and /v1/completions. INVALID_ARGUMENT with `param` naming the field. Response ids
// and seeds are left to the caller.
Result<Call> ParseChat(std::string_view body, const Limits& limits);
Result<Call> ParseCompletion(std::string_view body, const Limits& limits);

}  // namespace cyllm::openai
