#include "gateway/dialects/responses/writer.h"

#include <fmt/format.h>

#include "base/utf8.h"
#include "gateway/dialects/openai/logprobs.h"

namespace cyllm::responses {

namespace {

std::string Quoted(std::string_view text) {
  std::string out = "\"";
  AppendJsonEscaped(out, text);
  out += '"';
  return out;
}

// From a comma on.
std::string LogprobsField(std::string_view logprobs) { return fmt::format(R"(,"logprobs":[{}])", logprobs); }

std::string TextPart(std::string_view text, std::string_view logprobs) {
  return R"({"type":"output_text","annotations":[])" + LogprobsField(logprobs) + R"(,"text":)" +
         Quoted(text) + '}';
}

std::string ThoughtPart(std::string_view text) {
  return R"({"type":"reasoning_text","text":)" + Quoted(text) + '}';
}

void AppendListed(std::string_view elements, std::string& to) {
  if (!to.empty() && !elements.empty()) to += ',';
  to += elements;
}

}  // namespace

ResponseWriter::ResponseWriter(Shape shape, dialect::ResponseInfo info, bool stream)
    : Writer(1), shape_(std::move(shape)), info_(std::move(info)), stream_(stream) {}

void ResponseWriter::Emit(std::string_view type, std::string_view fields, std::string& out) {
  if (!stream_) return;
  fmt::format_to(std::back_inserter(out),
                 "event: {}\ndata: {{\"type\":\"{}\",\"sequence_number\":{},{}}}\n\n", type, type,
                 sequence_++, fields);
}

std::string ResponseWriter::ResponseJson(std::string_view status, std::string_view error, bool usage) const {
  std::string details = "null";
  if (status == "incomplete")
    details = reason_ == FinishReason::kLength ? R"({"reason":"max_output_tokens"})"
                                               : R"({"reason":"content_filter"})";
  std::string out = fmt::format(
      R"({{"id":"{}","object":"response","created_at":{},"status":"{}","error":{},"incomplete_details":{},"model":{},"output":[)",
      info_.id, info_.created, status, error, details, Quoted(shape_.model));
  for (size_t i = 0; i < done_.size(); ++i) {
    if (i) out += ',';
    out += done_[i];
  }
  out += ']';
  out += shape_.echo;
  if (usage) {
    const dialect::Totals& t = totals();
    fmt::format_to(
        std::back_inserter(out),
        R"(,"usage":{{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{}}},"output_tokens":{},)"
        R"("output_tokens_details":{{"reasoning_tokens":{}}},"total_tokens":{}}})",
        t.prompt_tokens, t.cached_tokens, t.completion_tokens, t.reasoning_tokens,
        t.prompt_tokens + t.completion_tokens);
  } else {
    out += R"(,"usage":null)";
  }
  return out + '}';
}

std::string ResponseWriter::ItemJson(const Item& item, std::string_view status) const {
  const bool done = status != "in_progress";
  switch (item.kind) {
    case Kind::kCall:
      return fmt::format(
          R"({{"id":"{}","type":"function_call","status":"{}","call_id":{},"name":{},"arguments":{}}})",
          item.id, status, Quoted(item.call_id), Quoted(item.name), Quoted(done ? item.text : ""));
    case Kind::kReasoning:
      return fmt::format(R"({{"id":"{}","type":"reasoning","summary":[],"content":[{}]}})", item.id,
                         done ? ThoughtPart(item.text) : "");
    default:
      return fmt::format(R"({{"id":"{}","type":"message","status":"{}","role":"assistant","content":[{}]}})",
                         item.id, status, done ? TextPart(item.text, item.logprobs) : "");
  }
}

std::string ResponseWriter::Place(const Item& item) const {
  return fmt::format(R"("item_id":"{}","output_index":{})", item.id, done_.size());
}

void ResponseWriter::Start(std::string& out) {
  Emit("response.created", R"("response":)" + ResponseJson("in_progress", "null", false), out);
  Emit("response.in_progress", R"("response":)" + ResponseJson("in_progress", "null", false), out);
}

ResponseWriter::Item& ResponseWriter::Open(Kind kind, const ToolCallDelta* call, std::string& out) {
  if (open_ && open_->kind == kind && (!call || call->index == open_->tool)) return *open_;
  Close(out);
  const char* prefix = kind == Kind::kCall ? "fc" : kind == Kind::kReasoning ? "rs" : "msg";
  // Ids are part of the response's: nothing random here.
  open_ = Item{kind,
               call ? call->index : 0,
               fmt::format("{}_{}_{}", prefix, info_.id.substr(info_.id.find('_') + 1), done_.size()),
               call ? call->id : "",
               call ? call->name : "",
               "",
               ""};
  Emit("response.output_item.added",
       fmt::format(R"("output_index":{},"item":{})", done_.size(), ItemJson(*open_, "in_progress")), out);
  if (kind != Kind::kCall)
    Emit("response.content_part.added",
         Place(*open_) + R"(,"content_index":0,"part":)" +
             (kind == Kind::kMessage ? TextPart("", "") : ThoughtPart("")),
         out);
  return *open_;
}

void ResponseWriter::Close(std::string& out, std::string_view status) {
  if (!open_) return;
  const std::string place = Place(*open_), text = stream_ ? Quoted(open_->text) : "";
  switch (open_->kind) {
    case Kind::kMessage:
      AppendListed(held_, open_->logprobs);
      held_.clear();
      Emit("response.output_text.done",
           place + R"(,"content_index":0)" + LogprobsField(open_->logprobs) + R"(,"text":)" + text, out);
      Emit("response.content_part.done",
           place + R"(,"content_index":0,"part":)" + TextPart(open_->text, open_->logprobs), out);
      break;
    case Kind::kCall:
      Emit("response.function_call_arguments.done",
           place + R"(,"name":)" + Quoted(open_->name) + R"(,"arguments":)" + text, out);
      break;
    case Kind::kReasoning:
      Emit("response.reasoning_text.done", place + R"(,"content_index":0,"text":)" + text, out);
      Emit("response.content_part.done", place + R"(,"content_index":0,"part":)" + ThoughtPart(open_->text),
           out);
  }
  std::string item = ItemJson(*open_, status);
  Emit("response.output_item.done", fmt::format(R"("output_index":{},"item":{})", done_.size(), item), out);
  done_.push_back(std::move(item));
  open_.reset();
}

void ResponseWriter::PutText(const TextDelta& delta, std::string& out) {
  if (shape_.logprobs && !delta.logprobs.empty()) {
    if (!held_.empty()) held_ += ',';
    openai::AppendChatLogprobs(delta.logprobs, held_);
  }
  if (delta.text.empty()) return;
  Item& item = Open(Kind::kMessage, nullptr, out);
  item.text += delta.text;
  if (stream_)
    Emit("response.output_text.delta",
         Place(item) + R"(,"content_index":0)" + LogprobsField(held_) + R"(,"delta":)" + Quoted(delta.text),
         out);
  AppendListed(held_, item.logprobs);
  held_.clear();
}

void ResponseWriter::Put(const Event& event, std::string& out) {
  const auto delta = [&](const char* type, const Item& item, const char* extra, std::string_view text) {
    if (stream_) Emit(type, Place(item) + extra + R"("delta":)" + Quoted(text), out);
  };
  if (const auto* text = std::get_if<TextDelta>(&event)) {
    PutText(*text, out);
  } else if (const auto* thought = std::get_if<ReasoningDelta>(&event)) {
    if (thought->text.empty()) return;
    Item& item = Open(Kind::kReasoning, nullptr, out);
    item.text += thought->text;
    delta("response.reasoning_text.delta", item, R"(,"content_index":0,)", thought->text);
  } else if (const auto* call = std::get_if<ToolCallDelta>(&event)) {
    Item& item = Open(Kind::kCall, call, out);
    item.text += call->arguments;
    if (!call->arguments.empty()) delta("response.function_call_arguments.delta", item, ",", call->arguments);
  } else if (const auto* finished = std::get_if<Finished>(&event)) {
    reason_ = finished->reason;
  }
}

void ResponseWriter::End(std::string& out) {
  const bool whole = reason_ == FinishReason::kStop || reason_ == FinishReason::kToolCalls;
  Close(out, whole ? "completed" : "incomplete");
  const std::string response = ResponseJson(whole ? "completed" : "incomplete", "null", true);
  if (!stream_) {
    out += response;
    return;
  }
  Emit(whole ? "response.completed" : "response.incomplete", R"("response":)" + response, out);
}

// As OpenAI does: to Codex a 400 is the end, and only the event makes it compact its history.
bool ResponseWriter::TellsInStream(const dialect::ApiError& error) const {
  return error.code == "context_length_exceeded";
}

void ResponseWriter::Fail(const dialect::ApiError& error, std::string& out) {
  open_.reset();  // nobody is told that it is done: clients run calls that are
  const std::string text =
      fmt::format(R"({{"code":{},"message":{}}})", Quoted(error.code.empty() ? error.type : error.code),
                  Quoted(error.message));
  Emit("response.failed", R"("response":)" + ResponseJson("failed", text, false), out);
}

void CountWriter::Put(const Event& event, std::string&) {
  if (const auto* accepted = std::get_if<Accepted>(&event)) tokens_ = accepted->prompt_tokens;
}

void CountWriter::End(std::string& out) {
  fmt::format_to(std::back_inserter(out), R"({{"object":"response.input_tokens","input_tokens":{}}})",
                 std::max(tokens_, totals().prompt_tokens));
}

}  // namespace cyllm::responses
