#include "gateway/dialects/openai/writer.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/utf8.h"
#include "gateway/dialects/openai/error.h"
#include "gateway/dialects/openai/logprobs.h"

namespace cyllm::openai {

namespace {

std::string_view Name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return "length";
    case FinishReason::kToolCalls:
      return "tool_calls";
    case FinishReason::kContentFilter:
      return "content_filter";
    default:
      return "stop";
  }
}

std::string UsageJson(const dialect::Totals& t) {
  return fmt::format(
      R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{}}},)"
      R"("completion_tokens_details":{{"reasoning_tokens":{}}}}})",
      t.prompt_tokens, t.completion_tokens, t.prompt_tokens + t.completion_tokens, t.cached_tokens,
      t.reasoning_tokens);
}

std::string PerformanceJson(const dialect::Totals& t, const std::string& trace_id) {
  return fmt::format(R"({{"ttft_ms":{:.3f},"tps":{:.3f},"trace_id":"{}"}})", t.ttft_ms, t.tokens_per_second(),
                     JsonEscape(trace_id));
}

void AppendToolCall(const ToolCallDelta& call, bool streamed, std::string& out) {
  out += '{';
  if (streamed) fmt::format_to(std::back_inserter(out), R"("index":{},)", call.index);
  if (!call.id.empty())
    fmt::format_to(std::back_inserter(out), R"("id":"{}","type":"function",)", JsonEscape(call.id));
  out += R"("function":{)";
  if (!call.name.empty()) fmt::format_to(std::back_inserter(out), R"("name":"{}",)", JsonEscape(call.name));
  out += R"("arguments":")";
  AppendJsonEscaped(out, call.arguments);
  out += R"("}})";
}

}  // namespace

// ---- stream

ChunkWriter::ChunkWriter(Shape shape, dialect::ResponseInfo info)
    : Writer(shape.n), shape_(std::move(shape)), info_(std::move(info)), text_offset_(shape_.choices) {
  head_ = fmt::format(R"(data: {{"id":"{}","object":"{}","created":{},"model":"{}",)", info_.id,
                      shape_.chat ? "chat.completion.chunk" : "text_completion", info_.created,
                      JsonEscape(shape_.model));
}

void ChunkWriter::Start(std::string& out) {
  if (!shape_.chat) return;
  for (uint32_t i = 0; i < shape_.choices; ++i) Chunk(i, R"({"role":"assistant","content":""})", {}, {}, out);
}

void ChunkWriter::Chunk(uint32_t choice, std::string_view delta, std::string_view logprobs,
                        std::string_view finish, std::string& out) {
  out += head_;
  out += R"("choices":[)";
  fmt::format_to(std::back_inserter(out), R"({{"index":{},)", choice);
  out += shape_.chat ? R"("delta":)" : R"("text":)";
  out += delta;
  out += R"(,"logprobs":)";
  out += logprobs.empty() ? "null" : logprobs;
  if (finish.empty()) {
    out += R"(,"finish_reason":null}])";
  } else {
    fmt::format_to(std::back_inserter(out), R"(,"finish_reason":"{}"}}])", finish);
  }
  Close(out);
}

void ChunkWriter::Verbatim(std::string_view members, std::string& out) const {
  out += head_;
  out += members;
  Close(out);
}

void ChunkWriter::Close(std::string& out) const {
  if (shape_.continuous_usage) {
    AppendUsage(SoFar(), out);
  } else if (shape_.include_usage) {
    out += R"(,"usage":null)";
  }
  out += "}\n\n";
}

void ChunkWriter::AppendUsage(const dialect::Totals& usage, std::string& out) const {
  out += R"(,"usage":)";
  out += UsageJson(usage);
}

dialect::Totals ChunkWriter::SoFar() const {
  dialect::Totals so_far = totals();  // of the choices that are finished
  so_far.prompt_tokens = std::max(so_far.prompt_tokens, tally_.prompt_tokens());
  so_far.completion_tokens = std::max(so_far.completion_tokens, tally_.completion_tokens());
  return so_far;
}

void ChunkWriter::Put(const Event& event, std::string& out) {
  const bool chat = shape_.chat;
  if (shape_.continuous_usage) tally_.See(event);
  const auto members = [](const auto& e) -> std::string_view {
    if constexpr (requires { e.chunk; }) return e.chunk;
    return {};
  };
  if (const auto* finished = std::get_if<Finished>(&event)) usage_chunk_ = finished->usage_chunk;
  if (const std::string_view chunk = std::visit(members, event); !chunk.empty()) return Verbatim(chunk, out);
  if (const auto* text = std::get_if<TextDelta>(&event)) {
    const bool has_logprobs = shape_.logprobs && !text->logprobs.empty();
    if ((text->text.empty() && !has_logprobs) || text->choice >= shape_.choices) return;
    std::string delta = chat ? R"({"content":")" : "\"";
    AppendJsonEscaped(delta, text->text);
    delta += chat ? "\"}" : "\"";
    std::string logprobs;
    if (has_logprobs && chat) {
      logprobs = R"({"content":[)";
      AppendChatLogprobs(text->logprobs, logprobs);
      logprobs += R"(],"refusal":null})";
    } else if (has_logprobs) {
      AppendTextLogprobs(text->logprobs, text_offset_[text->choice], logprobs);
    }
    Chunk(text->choice, delta, logprobs, {}, out);
  } else if (const auto* reasoning = std::get_if<ReasoningDelta>(&event)) {
    if (!chat || reasoning->text.empty()) return;
    std::string delta = R"({"reasoning_content":")";
    AppendJsonEscaped(delta, reasoning->text);
    delta += "\"}";
    Chunk(reasoning->choice, delta, {}, {}, out);
  } else if (const auto* call = std::get_if<ToolCallDelta>(&event)) {
    if (!chat) return;
    std::string delta = R"({"tool_calls":[)";
    AppendToolCall(*call, true, delta);
    delta += "]}";
    Chunk(call->choice, delta, {}, {}, out);
  } else if (const auto* finished = std::get_if<Finished>(&event)) {
    Chunk(finished->choice, chat ? "{}" : "\"\"", {}, Name(finished->reason), out);
  }
}

void ChunkWriter::End(std::string& out) {
  if (shape_.include_usage) {
    if (usage_chunk_.empty()) {
      out += head_;
      out += R"("choices":[])";
      AppendUsage(totals(), out);
    } else {
      out += head_;
      out += usage_chunk_;
    }
    out += R"(,"performance":)";
    out += PerformanceJson(totals(), info_.trace_id);
    out += "}\n\n";
  }
  out += "data: [DONE]\n\n";
}

void ChunkWriter::Fail(const dialect::ApiError& error, std::string& out) {
  out += "data: ";
  out += ErrorBody(error);
  out += "\n\n";
}

// ---- whole

BodyWriter::BodyWriter(Shape shape, dialect::ResponseInfo info)
    : Writer(shape.n), shape_(std::move(shape)), info_(std::move(info)), choices_(shape_.choices) {}

void BodyWriter::Put(const Event& event, std::string&) {
  if (const auto* text = std::get_if<TextDelta>(&event)) {
    if (text->choice >= choices_.size()) return;
    Choice& choice = choices_[text->choice];
    choice.text += text->text;
    if (!shape_.logprobs || text->logprobs.empty()) return;
    if (shape_.chat) {
      if (!choice.logprobs.empty()) choice.logprobs += ',';
      AppendChatLogprobs(text->logprobs, choice.logprobs);
    } else {
      choice.tokens.insert(choice.tokens.end(), text->logprobs.begin(), text->logprobs.end());
    }
  } else if (const auto* reasoning = std::get_if<ReasoningDelta>(&event)) {
    if (reasoning->choice < choices_.size()) choices_[reasoning->choice].reasoning += reasoning->text;
  } else if (const auto* call = std::get_if<ToolCallDelta>(&event)) {
    if (call->choice >= choices_.size()) return;
    auto& calls = choices_[call->choice].calls;
    const auto same =
        std::find_if(calls.begin(), calls.end(), [&](const auto& c) { return c.index == call->index; });
    if (same == calls.end()) {
      calls.push_back(*call);
    } else {
      same->arguments += call->arguments;
    }
  } else if (const auto* finished = std::get_if<Finished>(&event)) {
    if (finished->choice < choices_.size()) choices_[finished->choice].reason = finished->reason;
  }
}

void BodyWriter::AppendChoice(uint32_t index, const Choice& choice, std::string& out) const {
  fmt::format_to(std::back_inserter(out), R"({{"index":{},)", index);
  std::string logprobs = "null";
  if (shape_.chat) {
    out += R"("message":{"role":"assistant","content":)";
    if (choice.text.empty() && !choice.calls.empty()) {
      out += "null";
    } else {
      out += '"';
      AppendJsonEscaped(out, choice.text);
      out += '"';
    }
    out += R"(,"refusal":null)";
    if (!choice.reasoning.empty()) {
      out += R"(,"reasoning_content":")";
      AppendJsonEscaped(out, choice.reasoning);
      out += '"';
    }
    for (size_t i = 0; i < choice.calls.size(); ++i) {
      out += i ? "," : R"(,"tool_calls":[)";
      AppendToolCall(choice.calls[i], false, out);
    }
    if (!choice.calls.empty()) out += ']';
    out += '}';
    if (shape_.logprobs) logprobs = R"({"content":[)" + choice.logprobs + R"(],"refusal":null})";
  } else {
    out += R"("text":")";
    AppendJsonEscaped(out, choice.text);
    out += '"';
    if (shape_.logprobs) {
      logprobs.clear();
      uint64_t offset = 0;
      AppendTextLogprobs(choice.tokens, offset, logprobs);
    }
  }
  fmt::format_to(std::back_inserter(out), R"(,"logprobs":{},"finish_reason":"{}"}})", logprobs,
                 Name(choice.reason));
}

void BodyWriter::End(std::string& out) {
  out += fmt::format(R"({{"id":"{}","object":"{}","created":{},"model":"{}","choices":[)", info_.id,
                     shape_.chat ? "chat.completion" : "text_completion", info_.created,
                     JsonEscape(shape_.model));
  for (uint32_t i = 0; i < choices_.size(); ++i) {
    if (i) out += ',';
    AppendChoice(i, choices_[i], out);
  }
  fmt::format_to(std::back_inserter(out), R"(],"usage":{},"performance":{}}})", UsageJson(totals()),
                 PerformanceJson(totals(), info_.trace_id));
}

}  // namespace cyllm::openai
