#include "gateway/dialects/anthropic/writer.h"

#include <fmt/format.h>

#include <boost/json.hpp>

#include "base/utf8.h"
#include "gateway/dialects/anthropic/error.h"

namespace cyllm::anthropic {

namespace {

std::string StopJson(const Finished& finished) {
  const char* reason = "end_turn";
  std::string sequence = "null";
  switch (finished.reason) {
    case FinishReason::kLength:
      reason = "max_tokens";
      break;
    case FinishReason::kToolCalls:
      reason = "tool_use";
      break;
    case FinishReason::kContentFilter:
      reason = "refusal";
      break;
    case FinishReason::kStop:
      if (finished.stop_match.empty()) break;
      reason = "stop_sequence";
      sequence = '"' + JsonEscape(finished.stop_match) + '"';
  }
  return fmt::format(R"("stop_reason":"{}","stop_sequence":{})", reason, sequence);
}

// Anthropic's input_tokens are those that were not read from a cache.
std::string UsageJson(uint32_t prompt, uint32_t cached, uint32_t output) {
  return fmt::format(
      R"({{"input_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":{},"output_tokens":{}}})",
      prompt - std::min(prompt, cached), cached, output);
}

// The arguments that a model wrote, as the object that they should be.
std::string InputJson(const std::string& arguments) {
  boost::json::error_code ec;
  const boost::json::value value = boost::json::parse(arguments, ec);
  return !ec && value.is_object() ? arguments : "{}";
}

}  // namespace

StreamWriter::StreamWriter(std::string model, dialect::ResponseInfo info)
    : Writer(1), model_(std::move(model)), info_(std::move(info)) {}

void StreamWriter::Begin(const Accepted& accepted, std::string& out) {
  if (std::exchange(begun_, true)) return;
  fmt::format_to(
      std::back_inserter(out),
      "event: message_start\ndata: "
      R"({{"type":"message_start","message":{{"id":"{}","type":"message","role":"assistant","model":"{}",)"
      R"("content":[],"stop_reason":null,"stop_sequence":null,"usage":{}}}}})"
      "\n\n",
      info_.id, JsonEscape(model_), UsageJson(accepted.prompt_tokens, accepted.cached_tokens, 0));
}

void StreamWriter::Open(Block block, uint32_t tool, std::string_view start, std::string& out) {
  if (open_ == block && (block != Block::kTool || tool == tool_)) return;
  Close(out);
  open_ = block;
  tool_ = tool;
  fmt::format_to(std::back_inserter(out),
                 "event: content_block_start\ndata: "
                 R"({{"type":"content_block_start","index":{},"content_block":{}}})"
                 "\n\n",
                 ++index_, start);
}

void StreamWriter::Close(std::string& out) {
  if (open_ == Block::kNone) return;
  if (open_ == Block::kThinking) Delta("signature_delta", "signature", "", out);
  fmt::format_to(std::back_inserter(out),
                 "event: content_block_stop\ndata: "
                 R"({{"type":"content_block_stop","index":{}}})"
                 "\n\n",
                 index_);
  open_ = Block::kNone;
}

void StreamWriter::Delta(std::string_view type, std::string_view field, std::string_view text,
                         std::string& out) {
  fmt::format_to(std::back_inserter(out),
                 "event: content_block_delta\ndata: "
                 R"({{"type":"content_block_delta","index":{},"delta":{{"type":"{}","{}":")",
                 index_, type, field);
  AppendJsonEscaped(out, text);
  out += "\"}}\n\n";
}

void StreamWriter::Put(const Event& event, std::string& out) {
  if (const auto* accepted = std::get_if<Accepted>(&event)) {
    Begin(*accepted, out);
  } else if (const auto* text = std::get_if<TextDelta>(&event)) {
    if (text->text.empty()) return;
    Begin({}, out);
    Open(Block::kText, 0, R"({"type":"text","text":""})", out);
    Delta("text_delta", "text", text->text, out);
  } else if (const auto* thought = std::get_if<ReasoningDelta>(&event)) {
    if (thought->text.empty()) return;
    Begin({}, out);
    Open(Block::kThinking, 0, R"({"type":"thinking","thinking":"","signature":""})", out);
    Delta("thinking_delta", "thinking", thought->text, out);
  } else if (const auto* call = std::get_if<ToolCallDelta>(&event)) {
    Begin({}, out);
    Open(Block::kTool, call->index,
         fmt::format(R"({{"type":"tool_use","id":"{}","name":"{}","input":{{}}}})", JsonEscape(call->id),
                     JsonEscape(call->name)),
         out);
    if (!call->arguments.empty()) Delta("input_json_delta", "partial_json", call->arguments, out);
  } else if (const auto* finished = std::get_if<Finished>(&event)) {
    finished_ = *finished;
  }
}

void StreamWriter::End(std::string& out) {
  Begin({}, out);
  Close(out);
  fmt::format_to(std::back_inserter(out),
                 "event: message_delta\ndata: "
                 R"({{"type":"message_delta","delta":{{{}}},"usage":{}}})"
                 "\n\nevent: message_stop\ndata: "
                 R"({{"type":"message_stop"}})"
                 "\n\n",
                 StopJson(finished_),
                 UsageJson(totals().prompt_tokens, totals().cached_tokens, totals().completion_tokens));
}

void StreamWriter::Fail(const dialect::ApiError& error, std::string& out) {
  dialect::ApiError own = error;
  out += fmt::format("event: error\ndata: {{\"type\":\"error\",\"error\":{}}}\n\n", ErrorObject(own));
}

MessageWriter::MessageWriter(std::string model, dialect::ResponseInfo info)
    : Writer(1), model_(std::move(model)), info_(std::move(info)) {}

void MessageWriter::Put(const Event& event, std::string&) {
  if (const auto* text = std::get_if<TextDelta>(&event)) {
    text_ += text->text;
  } else if (const auto* thought = std::get_if<ReasoningDelta>(&event)) {
    thinking_ += thought->text;
  } else if (const auto* call = std::get_if<ToolCallDelta>(&event)) {
    if (calls_.empty() || calls_.back().index != call->index) {
      calls_.push_back(*call);
    } else {
      calls_.back().arguments += call->arguments;
    }
  } else if (const auto* finished = std::get_if<Finished>(&event)) {
    finished_ = *finished;
  }
}

void MessageWriter::End(std::string& out) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"id":"{}","type":"message","role":"assistant","model":"{}","content":[)", info_.id,
                 JsonEscape(model_));
  const size_t begin = out.size();
  const auto next = [&] {
    if (out.size() > begin) out += ',';
  };
  if (!thinking_.empty()) {
    out += R"({"type":"thinking","thinking":")";
    AppendJsonEscaped(out, thinking_);
    out += R"(","signature":""})";
  }
  if (!text_.empty()) {
    next();
    out += R"({"type":"text","text":")";
    AppendJsonEscaped(out, text_);
    out += "\"}";
  }
  for (const ToolCallDelta& call : calls_) {
    next();
    fmt::format_to(std::back_inserter(out), R"({{"type":"tool_use","id":"{}","name":"{}","input":{}}})",
                   JsonEscape(call.id), JsonEscape(call.name), InputJson(call.arguments));
  }
  fmt::format_to(std::back_inserter(out), R"(],{},"usage":{}}})", StopJson(finished_),
                 UsageJson(totals().prompt_tokens, totals().cached_tokens, totals().completion_tokens));
}

void CountWriter::Put(const Event& event, std::string&) {
  if (const auto* accepted = std::get_if<Accepted>(&event)) tokens_ = accepted->prompt_tokens;
}

void CountWriter::End(std::string& out) {
  fmt::format_to(std::back_inserter(out), R"({{"input_tokens":{}}})",
                 std::max(tokens_, totals().prompt_tokens));
}

}  // namespace cyllm::anthropic
