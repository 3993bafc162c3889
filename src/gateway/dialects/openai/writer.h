// Events as OpenAI's responses: one JSON body, or the chunks of a stream.
#pragma once

#include <string>
#include <vector>

#include "gateway/dialects/common/tally.h"
#include "gateway/dialects/openai/sampling.h"
#include "inference/event.h"

namespace cyllm::openai {

// A stream: each call appends whole SSE frames to `out`.
class ChunkWriter final : public dialect::Writer {
 public:
  ChunkWriter(Shape shape, dialect::ResponseInfo info);

  void Start(std::string& out) override;  // the first chunk of each choice
  void End(std::string& out) override;    // the usage chunk, if asked for, and [DONE]
  void Fail(const dialect::ApiError& error, std::string& out) override;

 private:
  void Put(const Event& event, std::string& out) override;
  void Chunk(uint32_t choice, std::string_view delta, std::string_view logprobs, std::string_view finish,
             std::string& out);
  // The server's own: its members.
  void Verbatim(std::string_view members, std::string& out) const;
  void Close(std::string& out) const;
  void AppendUsage(const dialect::Totals& usage, std::string& out) const;
  dialect::Totals SoFar() const;

  const Shape shape_;
  const dialect::ResponseInfo info_;
  std::string head_;  // of every chunk, up to its choices
  std::string usage_chunk_;
  Tally tally_;                        // with continuous_usage
  std::vector<uint64_t> text_offset_;  // per choice, in code points, for logprobs of completions
};

// A whole response.
class BodyWriter final : public dialect::Writer {
 public:
  BodyWriter(Shape shape, dialect::ResponseInfo info);

  void End(std::string& out) override;

 private:
  struct Choice {
    std::string text, reasoning;
    std::string logprobs;  // of chats: the elements so far
    std::vector<ToolCallDelta> calls;
    std::vector<TokenLogprob> tokens;  // of completions, with logprobs
    FinishReason reason = FinishReason::kStop;
  };
  void Put(const Event& event, std::string& out) override;
  void AppendChoice(uint32_t index, const Choice& choice, std::string& out) const;

  const Shape shape_;
  const dialect::ResponseInfo info_;
  std::vector<Choice> choices_;
};

}  // namespace cyllm::openai
