#include "gateway/dialects/ollama/writer.h"

#include <fmt/format.h>

#include "base/utf8.h"
#include "gateway/dialects/ollama/fields.h"

namespace cyllm::ollama {

namespace {

int64_t Nanoseconds(double ms) { return static_cast<int64_t>(std::max(ms, 0.0) * 1e6); }

}  // namespace

LineWriter::LineWriter(Shape shape, dialect::ResponseInfo info)
    : Writer(1), shape_(std::move(shape)), info_(std::move(info)), created_at_(Rfc3339(info_.created)) {}

void LineWriter::Append(std::string_view text, std::string_view thinking, std::string_view calls,
                        std::string& out) const {
  fmt::format_to(std::back_inserter(out), R"({{"model":"{}","created_at":"{}",)", JsonEscape(shape_.model),
                 created_at_);
  out += shape_.chat ? R"("message":{"role":"assistant","content":")" : R"("response":")";
  AppendJsonEscaped(out, text);
  out += '"';
  if (!thinking.empty()) {
    out += R"(,"thinking":")";
    AppendJsonEscaped(out, thinking);
    out += '"';
  }
  if (!calls.empty() && shape_.chat) fmt::format_to(std::back_inserter(out), R"(,"tool_calls":[{}])", calls);
  if (shape_.chat) out += '}';
}

void LineWriter::FlushCall(std::string& out) {
  if (!std::exchange(in_call_, false)) return;
  boost::json::error_code ec;
  const boost::json::value arguments = boost::json::parse(call_.arguments, ec);
  const std::string call = fmt::format(
      R"({{"id":"{}","function":{{"index":{},"name":"{}","arguments":{}}}}})", JsonEscape(call_.id),
      call_.index, JsonEscape(call_.name), !ec && arguments.is_object() ? call_.arguments : "{}");
  if (!shape_.stream) {
    if (!calls_.empty()) calls_ += ',';
    calls_ += call;
    return;
  }
  Append("", "", call, out);
  out += R"(,"done":false})";
  out += '\n';
}

void LineWriter::Put(const Event& event, std::string& out) {
  std::string_view text, thinking;
  if (const auto* delta = std::get_if<TextDelta>(&event)) {
    text = delta->text;
  } else if (const auto* thought = std::get_if<ReasoningDelta>(&event)) {
    thinking = thought->text;
  } else if (const auto* call = std::get_if<ToolCallDelta>(&event)) {
    if (in_call_ && call->index == call_.index) {
      call_.arguments += call->arguments;
    } else {
      FlushCall(out);
      call_ = *call;
      in_call_ = true;
    }
  } else if (const auto* finished = std::get_if<Finished>(&event)) {
    finished_ = *finished;
  }
  if (text.empty() && thinking.empty()) return;
  if (!shape_.stream) {
    text_ += text;
    thinking_ += thinking;
    return;
  }
  Append(text, thinking, "", out);
  out += R"(,"done":false})";
  out += '\n';
}

void LineWriter::End(std::string& out) {
  FlushCall(out);
  Append(text_, thinking_, calls_, out);
  const char* reason = shape_.load_only                            ? "load"
                       : finished_.reason == FinishReason::kLength ? "length"
                                                                   : "stop";
  const Timings& t = finished_.timings;
  fmt::format_to(
      std::back_inserter(out),
      R"(,"done":true,"done_reason":"{}","total_duration":{},"load_duration":{},"prompt_eval_count":{},)"
      R"("prompt_eval_duration":{},"eval_count":{},"eval_duration":{}}})",
      reason, Nanoseconds(t.ttft_ms + t.decode_ms), Nanoseconds(t.queue_ms), totals().prompt_tokens,
      Nanoseconds(t.ttft_ms - t.queue_ms), totals().completion_tokens, Nanoseconds(t.decode_ms));
  if (shape_.stream) out += '\n';
}

void LineWriter::Fail(const dialect::ApiError& error, std::string& out) { out += ErrorLine(error) + '\n'; }

}  // namespace cyllm::ollama
