// A request: facts, all that routing and queueing look at, and a payload that only engines read.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace cyllm {

// The numbers of CYLLM_KIND_* in engines/sdk/engine.h.
enum class Kind : uint8_t {
  kChat = 0,
  kText = 1,
  kTokens = 2,
  kEmbed = 3,
  kRerank = 4,
  kTokenize = 5,
  kDetokenize = 6,
};
inline constexpr int kKinds = 7;

// Bits of RequestFacts::needs and ModelInfo::capabilities; the numbers of CYLLM_CAP_* in
// engines/sdk/engine.h.
enum Capability : uint32_t {
  kCapChat = 1u << 0,
  kCapText = 1u << 1,
  kCapTokens = 1u << 2,
  kCapEmbed = 1u << 3,
  kCapRerank = 1u << 4,
  kCapTools = 1u << 5,
  kCapJsonSchema = 1u << 6,
  kCapLogprobs = 1u << 7,
  kCapVision = 1u << 8,
  kCapResume = 1u << 9,
  kCapLora = 1u << 10,
  kCapInfill = 1u << 11,
  kCapTokenize = 1u << 12,
};

// The refusal of a request that needs what an engine has not; names the field that asks for it, where it is
// one.
Status CannotDo(uint32_t missing);

// Cumulative, per choice: how much has been produced up to and including an event.
struct Offsets {
  uint64_t tokens = 0;
  uint64_t text_bytes = 0;
  uint64_t reasoning_bytes = 0;
  uint64_t tool_argument_bytes = 0;
  bool operator==(const Offsets&) const = default;
};

struct ChoiceResume {
  std::vector<int32_t> token_ids;
  Offsets delivered;
  bool operator==(const ChoiceResume&) const = default;
};

// Where an interrupted request stands (design: "Resume state"). Empty `choices`: a fresh request.
struct ResumeState {
  uint32_t epoch = 0;
  std::vector<ChoiceResume> choices;
  std::string digest;  // ModelInfo::digest of what produced the tokens: only its equals may go on
  bool operator==(const ResumeState&) const = default;
};

struct RequestFacts {
  Kind kind = Kind::kChat;
  std::string model;  // id as registered; never empty past the edge ("default" names the default model)
  std::string adapter;
  std::string tenant;
  int32_t priority = 0;  // lower runs first
  uint32_t prompt_tokens_estimate = 0;
  std::optional<uint32_t> max_tokens;  // per choice; unset: the rest of the context
  uint32_t choices = 1;
  uint32_t needs = 0;  // Capability bits
  std::vector<uint64_t> prefix_hashes;
  std::optional<int64_t> seed;
  std::string response_id;
  ResumeState resume;
  std::vector<std::string> avoid_workers;  // asked again only where nobody else can
  std::string worker_hint;                 // the worker to ask where it can take the request
  uint64_t affinity = 0;                   // hash of the user, key or header to stay with; 0: none
  bool verbatim = false;  // the client reads OpenAI's chunks, a server's own are welcome; not on the wire
  bool operator==(const RequestFacts&) const = default;
};

// Absent means the engine's default; 0 is 0.
struct Sampling {
  std::optional<double> temperature, top_p, min_p;
  std::optional<int32_t> top_k;
  std::optional<double> repetition_penalty, presence_penalty, frequency_penalty;
  std::vector<std::pair<int32_t, float>> logit_bias;  // token id, bias
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  uint32_t min_tokens = 0;
  bool logprobs = false;
  uint32_t top_logprobs = 0;
  bool operator==(const Sampling&) const = default;
};

// A text to embed or to rank; its tokens where there are any.
struct Input {
  std::string text;
  std::vector<int32_t> tokens;
  bool operator==(const Input&) const = default;
};

// What engines read. The *_json fields are JSON text in OpenAI's form, validated at the edge; empty: absent.
struct PayloadParts {
  std::string messages_json;
  std::string tools_json;
  std::string tool_choice_json;
  std::string response_format_json;
  std::string template_kwargs_json;
  // An object with the members of an OpenAI body that nobody here reads, for a server that may know them.
  std::string extra_json;
  std::string prompt;  // Kind::kText; the query of Kind::kRerank; Kind::kTokenize without messages
  std::string suffix;  // Kind::kText: what comes after the part that is asked for
  std::vector<int32_t> prompt_tokens;  // Kind::kTokens, Kind::kDetokenize
  std::vector<Input> inputs;           // Kind::kEmbed, Kind::kRerank
  uint32_t dimensions = 0;             // Kind::kEmbed: of the vectors; 0: as the model gives them
  Sampling sampling;
  bool echo = false;
  bool parallel_tool_calls = true;
  bool no_special_tokens = false;  // Kind::kTokenize
  bool operator==(const PayloadParts&) const = default;
};

// Immutable, shared, thread-safe. Made from parts (at the edge) or from wire bytes (everywhere else); the
// other form is made once, on demand. A process that only forwards never decodes.
class Payload {
 public:
  static std::shared_ptr<const Payload> Of(PayloadParts parts);
  static std::shared_ptr<const Payload> FromBytes(std::string bytes);

  // INVALID_ARGUMENT when the bytes are no payload.
  Result<const PayloadParts*> parts() const;
  const std::string& bytes() const;
  // What bytes() is made of, in order, as views into this payload: for who sends it, nothing large is copied.
  const std::vector<std::string_view>& pieces() const;
  size_t size() const;  // of bytes()

 private:
  Payload() = default;
  mutable std::once_flag decoded_, encoded_, joined_;
  mutable bool has_parts_ = false, has_bytes_ = false;
  mutable bool malformed_ = false;
  mutable PayloadParts parts_;
  mutable std::string bytes_, encoded_small_;
  mutable std::vector<std::string_view> pieces_;
};

struct Request {
  RequestFacts facts;
  std::shared_ptr<const Payload> payload;
};

}  // namespace cyllm
