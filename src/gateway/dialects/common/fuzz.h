// What every dialect's fuzz target asks of its parsers and writers. Aborts when it does not hold.
#pragma once

#include <algorithm>
#include <boost/json.hpp>
#include <cstdlib>

#include "gateway/dialects/common/dialect.h"

namespace cyllm::dialect {

// Events or lines: each a frame of its own, with the data on one line, and that proper JSON.
inline void CheckStream(std::string_view out, const Dialect& dialect) {
  const bool sse = dialect.stream_type.starts_with("text/event-stream");
  const std::string_view end = sse ? "\n\n" : "\n", data = "data: ";
  if (!out.ends_with(end)) std::abort();
  while (!out.empty()) {
    std::string_view frame = out.substr(0, out.find(end));
    out.remove_prefix(frame.size() + end.size());
    if (sse && frame.starts_with("event: "))
      frame.remove_prefix(std::min(frame.find('\n'), frame.size() - 1) + 1);
    if (sse && !frame.starts_with(data)) std::abort();
    if (sse) frame.remove_prefix(data.size());
    if (frame.find('\n') != frame.npos) std::abort();
    if (frame != "[DONE]") boost::json::parse(frame);
  }
}

// Refusals are the client's fault and short; what is accepted survives the wire; the writers make of an
// answer with every kind of event, and of a failure, what the dialect's clients can read.
inline void FuzzParser(ParseFn parse, const Dialect& dialect, std::string_view body) {
  Result<Call> call = parse(body, {});
  if (!call) {
    ApiError error = FromStatus(call.error());
    if (error.http < 400 || error.http >= 500 || error.message.empty() || error.message.size() > 10'000)
      std::abort();
    boost::json::parse(dialect.error_body(error, "req-1"));
    return;
  }
  if (call->requests.empty() || call->n == 0) std::abort();
  for (const Request& request : call->requests) {
    const auto copy = Payload::FromBytes(request.payload->bytes());
    const auto again = copy->parts();
    if (!again || **again != **request.payload->parts()) std::abort();
  }
  for (const bool fails : {false, true}) {
    const std::unique_ptr<Writer> writer = call->writer({call->id_prefix + "1", 1, "t"});
    std::string out;
    writer->Start(out);
    const std::string text(body.substr(0, 64));
    writer->Write(Accepted{3, 1, "w"}, out);
    writer->Write(ReasoningDelta{0, text, {1}, {}}, out);
    writer->Write(TextDelta{0, text, {2}, {{2, text, -1, {{3, text, -2, {}}}}}, {}}, out);
    writer->Write(ToolCallDelta{0, 0, "call_1", "f", "{\"a\":", {3}, {}}, out);
    writer->Write(ToolCallDelta{0, 0, "", "", "1}", {4}, {}}, out);
    writer->Write(Values{0, {0.5f, -1}}, out);
    writer->Write(Finished{0, FinishReason::kStop, text, {3, 1, 4, 1}, {1, 2, 3}}, out);
    fails ? writer->Fail(FromStatus(Unavailable("gone")), out) : writer->End(out);
    if (call->stream) CheckStream(out, dialect);
    if (!call->stream && !fails) boost::json::parse(out);
  }
}

}  // namespace cyllm::dialect
