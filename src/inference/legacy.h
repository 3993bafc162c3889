// What old (Python) peers see of our requests and events, and what we make of theirs: the contract's
// StreamPredict. Pure functions and small state; no gRPC.
#pragma once

#include <ai_service.pb.h>

#include <string>

#include "inference/service.h"

namespace cyllm::legacy {

inline constexpr char kLoadingMarker[] = "[模型加载]";

// The contract's prompt building: one single user message is its raw text; otherwise lines "System: ...",
// "User: ...", "Assistant: ..." and a final "Assistant:"; other roles are dropped. `messages_json` is an
// OpenAI messages array.
std::string FlattenPrompt(const std::string& messages_json);

// A request for any StreamPredict peer: the contract's fields, and ours (facts, payload, context) for who
// understands them.
Status PutRequest(const Request& request, const Context& context, cy::llm::StreamPredictRequest* out);

// A request from any StreamPredict peer. Without our fields, `prompt` becomes one user message.
// INVALID_ARGUMENT when it is empty or longer than `max_prompt_chars` code points (0: unlimited). `home` is
// left empty.
Result<std::pair<Request, Context>> GetRequest(cy::llm::StreamPredictRequest in, size_t max_prompt_chars,
                                               TimePoint now);

// Events as the contract's messages: deltas and loading marks take consecutive indexes, then one final
// message.
class ResponseWriter {
 public:
  ResponseWriter(std::string trace_id, TimePoint start) : trace_id_(std::move(trace_id)), start_(start) {}

  // Fills `out` (contract's fields and ours). False: old peers see nothing of this event and it need not be
  // sent to them.
  bool Write(const Event& event, TimePoint now, cy::llm::StreamPredictResponse* out);
  // The final message, after the last Finished; `end_of_stream` with ttft and tokens per second.
  void WriteEnd(TimePoint now, cy::llm::StreamPredictResponse* out);

 private:
  const std::string trace_id_;
  const TimePoint start_;
  uint32_t index_ = 0;
  uint64_t tokens_ = 0;
  TimePoint first_token_ = kNever;
};

// The contract's messages as events: Accepted is made up before the first chunk, Finished from the final
// message.
class ResponseReader {
 public:
  // `prompt_tokens` is our estimate: old peers do not say.
  explicit ResponseReader(uint32_t prompt_tokens) : prompt_tokens_(prompt_tokens) {}

  // Appends the events of one message. Not OK: the peer says that it cannot (worker_not_configured).
  Status Read(const cy::llm::StreamPredictResponse& in, Batch* out);
  bool finished() const { return finished_; }

 private:
  const uint32_t prompt_tokens_;
  bool accepted_ = false, finished_ = false;
  Offsets offsets_;
};

// A failed call of an old peer. Details may be a Python repr with addresses in it: they are kept for codes
// whose text the contract fixes, and replaced otherwise; a status name inside (the old coordinator wraps
// them) is believed.
Status FromPeer(Code code, const std::string& details);

}  // namespace cyllm::legacy
