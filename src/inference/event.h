// What a request produces, in order: Accepted first, then deltas (Progress in between), one Finished per
// choice (embeddings and ranks: Values per input, then one Finished). How the request ended is the stream's
// Status, not an event.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "inference/request.h"

namespace cyllm {

// Why a request is where it is: the x-cy-route header.
struct RouteReceipt {
  std::string policy;
  float prefix_hit = 0;   // share of the prompt that the worker was expected to hold
  double queue_ms = 0;    // waited for a worker
  uint32_t attempts = 0;  // workers asked, this one included
  bool operator==(const RouteReceipt&) const = default;
};

// Always first; what fails before it is a clean refusal that another server may repeat. It comes again when
// another server had to take over; Resume, at the edge, makes one of them.
struct Accepted {
  uint32_t prompt_tokens = 0;
  uint32_t cached_tokens = 0;
  std::string worker;      // name of the process that runs it
  std::string digest;      // ModelInfo::digest of what answers
  bool resumable = false;  // another worker of that digest can go on where this one is lost
  RouteReceipt route;
  bool operator==(const Accepted&) const = default;
};

// The last event of a request that fails before Accepted: how far it came. Resume hands it on where the
// client has no Accepted.
struct Tried {
  std::string worker;  // asked last; empty: none was
  RouteReceipt route;
  bool operator==(const Tried&) const = default;
};

// May come before Accepted: the request is waiting.
struct Progress {
  enum class Phase : uint8_t { kQueued = 0, kLoading = 1 };
  Phase phase = Phase::kQueued;
  float fraction = -1;  // 0..1; negative: unknown
  std::string detail;
  bool operator==(const Progress&) const = default;
};

struct TokenLogprob {
  int32_t token_id = 0;
  std::string bytes;
  float logprob = 0;
  std::vector<TokenLogprob> top;  // not nested further
  bool operator==(const TokenLogprob&) const = default;
};

struct TextDelta {
  uint32_t choice = 0;
  std::string text;  // complete code points; may be empty (a token that shows nothing yet)
  std::vector<int32_t> token_ids;
  std::vector<TokenLogprob> logprobs;
  Offsets end;
  // For RequestFacts::verbatim, where nothing in it changes: the members of the server's own chunk that says
  // this and no more, but for those that are the gateway's (id, object, created, model, usage). As JSON text.
  std::string chunk;
  bool operator==(const TextDelta&) const = default;
};

struct ReasoningDelta {
  uint32_t choice = 0;
  std::string text;
  std::vector<int32_t> token_ids;
  Offsets end;
  std::string chunk;  // see TextDelta
  bool operator==(const ReasoningDelta&) const = default;
};

struct ToolCallDelta {
  uint32_t choice = 0;
  uint32_t index = 0;
  std::string id, name;   // first delta of a call only
  std::string arguments;  // a piece of the JSON text
  std::vector<int32_t> token_ids;
  Offsets end;
  std::string chunk;  // see TextDelta
  bool operator==(const ToolCallDelta&) const = default;
};

// Of one input of an embedding or ranking request, once each.
struct Values {
  uint32_t input = 0;
  std::vector<float> values;  // the vector; ranking: one score, higher is better
  bool operator==(const Values&) const = default;
};

enum class FinishReason : uint8_t { kStop = 0, kLength = 1, kToolCalls = 2, kContentFilter = 3 };

struct Usage {
  uint32_t prompt_tokens = 0;  // of the request, counted once whatever the number of choices
  uint32_t cached_tokens = 0;
  uint32_t completion_tokens = 0;
  uint32_t reasoning_tokens = 0;
  bool operator==(const Usage&) const = default;
};

struct Timings {
  double queue_ms = 0;   // submit to first prefill
  double ttft_ms = 0;    // submit to first token
  double decode_ms = 0;  // first to last token
  bool operator==(const Timings&) const = default;
};

struct Finished {
  uint32_t choice = 0;
  FinishReason reason = FinishReason::kStop;
  std::string stop_match;
  Usage usage;  // completion tokens of this choice
  Timings timings;
  uint32_t resumed = 0;     // how often another worker had to go on
  std::string chunk;        // see TextDelta
  std::string usage_chunk;  // the same for the usage, with it; of the only choice
  bool operator==(const Finished&) const = default;
};

using Event =
    std::variant<Accepted, Progress, TextDelta, ReasoningDelta, ToolCallDelta, Finished, Values, Tried>;
using Batch = std::vector<Event>;

// What the client's answer is not made of.
inline bool IsNote(const Event& event) {
  return std::holds_alternative<Progress>(event) || std::holds_alternative<Tried>(event);
}

// What costs credit.
inline bool IsDelta(const Event& event) {
  return std::holds_alternative<TextDelta>(event) || std::holds_alternative<ReasoningDelta>(event) ||
         std::holds_alternative<ToolCallDelta>(event) || std::holds_alternative<Values>(event);
}

}  // namespace cyllm
