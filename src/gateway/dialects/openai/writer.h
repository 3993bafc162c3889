// Events as OpenAI's responses: one JSON body, or the chunks of a stream.
#pragma once

#include <string>
#include <vector>

#include "gateway/dialects/openai/call.h"
#include "inference/event.h"

namespace cyllm::openai {

struct ResponseInfo {
  std::string id;        // "chatcmpl-..." or "cmpl-..."
  int64_t created = 0;   // unix seconds
  std::string trace_id;  // of `performance`
};

// What an answer adds up to. Choice numbers are those of the call (prompts × n).
struct Totals {
  uint32_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, reasoning_tokens = 0;
  double ttft_ms = 0, decode_ms = 0;  // the longest of the choices
  uint32_t finished = 0;              // choices

  void Add(const Finished& finished_choice, bool first_of_its_request);
  double tokens_per_second() const;
};

// A stream: each call appends whole SSE frames to `out`.
class ChunkWriter {
 public:
  ChunkWriter(const Call& call, ResponseInfo info);

  // Before anything else: the first chunk of each choice.
  void Start(std::string& out);
  void Write(const Event& event, std::string& out);
  void End(std::string& out);  // the usage chunk, if asked for, and [DONE]
  const Totals& totals() const { return totals_; }

 private:
  void Chunk(uint32_t choice, std::string_view delta, std::string_view logprobs, std::string_view finish,
             std::string& out);
  void AppendUsage(std::string& out) const;

  const Call::Kind kind_;
  const uint32_t n_, choices_;
  const bool include_usage_, continuous_usage_, logprobs_;
  const ResponseInfo info_;
  std::string prefix_;  // of every chunk, up to its choices
  Totals totals_;
  std::vector<uint64_t> text_offset_;  // per choice, in code points, for logprobs of completions
};

// A whole response.
class BodyWriter {
 public:
  BodyWriter(const Call& call, ResponseInfo info);

  void Add(const Event& event);
  std::string Body() const;
  const Totals& totals() const { return totals_; }

 private:
  struct Choice {
    std::string text, reasoning;
    std::string logprobs;  // of chats: the elements so far
    std::vector<ToolCallDelta> calls;
    std::vector<TokenLogprob> tokens;  // of completions, with logprobs
    FinishReason reason = FinishReason::kStop;
  };
  void AppendChoice(uint32_t index, const Choice& choice, std::string& out) const;

  const Call::Kind kind_;
  const uint32_t n_;
  const bool logprobs_;
  const std::string model_;
  const ResponseInfo info_;
  std::vector<Choice> choices_;
  Totals totals_;
};

constexpr char kDone[] = "data: [DONE]\n\n";
constexpr char kPing[] = ": ping\n\n";

}  // namespace cyllm::openai
