// What a server answers, as events. Pure; fed with the data of server-sent events, or with a whole body.
//
// Lenient where servers differ (null or missing fields, repeated roles and names, calls without an index),
// strict where leniency would lose something: an answer without a finish_reason for every choice has failed,
// whatever else came, and so has one with an `error` in it, although its status was 200.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "inference/event.h"
#include "upstream/openai/verbatim.h"

namespace cyllm::upstream {

// What is known of an answer before it comes.
struct AnswerOptions {
  Kind kind = Kind::kChat;
  uint32_t choices = 1;
  std::string worker;             // said in Accepted
  TimePoint start{};              // when the request was sent, for timings
  bool usage_per_choice = false;  // see Profile
  bool ids_by_logprobs = false;   // the logprobs were asked for their ids, and are not shown
  std::string digest;             // said in Accepted, and whether another server can go on
  bool resumable = false;
  Offsets begun;          // where it goes on, if it was begun elsewhere
  bool verbatim = false;  // keep the chunks of what goes on as it came
  Hidden hidden;          // in them
};

// The answer to a chat or completion request that was asked to be streamed.
class StreamAnswer {
 public:
  explicit StreamAnswer(AnswerOptions options);

  // Appends the events of one server-sent event's data. An error ends the answer; `detail`: see error.h.
  Status OnData(std::string_view data, TimePoint now, Batch& out, std::string* detail = nullptr);

  // The stream is over ([DONE] or the body's end): the Finished events, or why there are none.
  Status OnEnd(Batch& out);

  bool done() const { return done_; }          // [DONE] has come
  bool complete() const;                       // every choice has finished
  bool accepted() const { return accepted_; }  // events have come

 private:
  struct Choice {
    Offsets end;
    std::vector<std::string> call_ids;  // of tool calls, by index; empty: not begun
    std::vector<bool> calls_begun;
    bool finished = false, ids_known = true;
    uint64_t token_ids = 0, reasoning_tokens = 0;
    FinishReason reason = FinishReason::kStop;
    std::string stop_match;
    std::string end_chunk;
    TimePoint first{}, last{};
  };
  struct Reader;

  // Gives what was read of a chunk (out, from `begin` on) the chunk itself, where it says nothing else.
  void Keep(std::string_view data, const Reader& reader, size_t begin, Batch& out);

  const AnswerOptions options_;
  std::vector<Choice> choices_;
  Usage usage_;
  std::string usage_chunk_;
  uint32_t prompt_token_ids_ = 0;
  bool has_usage_ = false, accepted_ = false, done_ = false;
};

// The answer to an embedding, ranking, tokenising or detokenising request with `inputs` inputs.
Status ReadBody(Kind kind, size_t inputs, std::string_view body, const std::string& worker, Batch& out,
                std::string* detail = nullptr);

}  // namespace cyllm::upstream
