// What a dialect is to the rest of the gateway: bodies become calls, events become bytes. Everything here is
// a pure mapping; sockets, routing and time belong to the caller.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "gateway/dialects/common/error.h"
#include "inference/event.h"
#include "inference/request.h"

namespace cyllm::dialect {

// What the gateway allows; beyond it a parser refuses.
struct Limits {
  uint32_t max_choices = 16;   // n
  uint32_t max_inputs = 2048;  // texts to embed or to rank, prompts × n
};

// Fixed by the caller when the call begins.
struct ResponseInfo {
  std::string id;        // Call::id_prefix and a random part
  int64_t created = 0;   // unix seconds
  std::string trace_id;  // a UUID
  // Tokens that the model can hold, once it has answered; 0: not known. Empty but for Kind::kTokenize.
  std::function<uint32_t()> context_length = {};
};

// What an answer adds up to. Choice numbers are those of the call (requests × n).
struct Totals {
  uint32_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, reasoning_tokens = 0;
  double queue_ms = 0, ttft_ms = 0, decode_ms = 0;  // the longest of the choices
  uint32_t finished = 0;                            // choices

  void Add(const Finished& finished_choice, bool first_of_its_request);
  double tokens_per_second() const;
};

// The events of a call as bytes. A streamed answer appends what can be sent at once; a whole one gathers,
// and appends its body in End. Start, Write..., then End or Fail.
class Writer {
 public:
  // `n`: choices of each request, for counting each prompt once.
  explicit Writer(uint32_t n) : n_(n) {}
  virtual ~Writer() = default;

  virtual void Start(std::string&) {}
  void Write(const Event& event, std::string& out) {
    if (const auto* finished = std::get_if<Finished>(&event))
      totals_.Add(*finished, finished->choice % n_ == 0);
    Put(event, out);
  }
  virtual void End(std::string& out) = 0;
  // An error after the header was sent, in the stream's own form.
  virtual void Fail(const ApiError&, std::string&) {}
  // Of a refusal that came before the header: its clients look for it in the stream, after a 200.
  virtual bool TellsInStream(const ApiError&) const { return false; }
  const Totals& totals() const { return totals_; }

 protected:
  virtual void Put(const Event& event, std::string& out) = 0;

 private:
  const uint32_t n_;
  Totals totals_;
};

// What a body asks for. Response ids, seeds and the tenant are left to the caller.
struct Call {
  std::string model;              // as asked for; "default" when absent
  std::vector<Request> requests;  // one; completions: one per prompt
  uint32_t n = 1;                 // choices of each
  bool stream = false;
  std::string id_prefix;  // "chatcmpl-"
  std::function<std::unique_ptr<Writer>(ResponseInfo)> writer;
};

// INVALID_ARGUMENT with `param` naming the field.
using ParseFn = Result<Call> (*)(std::string_view body, const Limits& limits);

struct Dialect {
  std::string_view stream_type;  // Content-Type of streams
  std::string_view ping;         // what a silent stream says; empty: the form has no such thing
  // The body of an error that is the whole response. May give it the dialect's own status.
  std::string (*error_body)(ApiError& error, std::string_view request_id);
  bool needs_json_type = true;      // refuse bodies of another Content-Type
  std::string_view id_header = {};  // a further header with the request's id
};

}  // namespace cyllm::dialect
