#include "gateway/dialects/legacy/legacy.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "base/utf8.h"
#include "gateway/dialects/common/fields.h"
#include "gateway/dialects/common/messages.h"

namespace cyllm::legacy {

namespace json = boost::json;
using dialect::Fields;

namespace {

// Its own limits and defaults.
constexpr size_t kMaxPromptChars = 8000;
constexpr int64_t kMaxNewTokens = 2048, kNewTokens = 512;
constexpr double kTemperature = 0.7, kTopP = 0.9, kRepetitionPenalty = 1.05;

struct Shape {
  std::string model, trace_id, metadata;  // metadata: JSON, or empty
  bool stream = false;
};

const char* CodeOf(const dialect::ApiError& error) {
  switch (error.http) {
    case 401:
    case 403:
      return "UNAUTHORIZED";
    case 404:
      return error.code == "model_not_found" ? "MODEL_NOT_FOUND" : "NOT_FOUND";
    case 429:
      return "RATE_LIMITED";
    case 503:
      return error.code == "server_overloaded" ? "INSUFFICIENT_RESOURCES" : "MODEL_NOT_READY";
    default:
      return error.http >= 500 ? "INTERNAL_ERROR" : "INVALID_REQUEST";
  }
}

std::string ErrorBody(const dialect::ApiError& error) {
  std::string details;
  if (!error.param.empty()) details = fmt::format(R"({{"field":"{}"}})", JsonEscape(error.param));
  return fmt::format(R"({{"error":{{"code":"{}","message":"{}","details":[{}]}}}})", CodeOf(error),
                     JsonEscape(error.message), details);
}

class InferenceWriter final : public dialect::Writer {
 public:
  InferenceWriter(Shape shape, dialect::ResponseInfo info)
      : Writer(1), shape_(std::move(shape)), info_(std::move(info)) {
    if (shape_.trace_id.empty()) shape_.trace_id = info_.trace_id;
  }

  void End(std::string& out) override {
    if (shape_.stream) {
      Frame("", true, out);
      out += "data: [DONE]\n\n";
      return;
    }
    const dialect::Totals& t = totals();
    fmt::format_to(
        std::back_inserter(out),
        R"({{"traceId":"{}","modelId":"{}","content":"{}","latencyMillis":{},"id":"{}","object":"text_completion",)"
        R"("created":{},"choices":[{{"index":0,"text":"{}","finish_reason":"{}"}}],)"
        R"("usage":{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{}}}}})",
        JsonEscape(shape_.trace_id), JsonEscape(shape_.model), JsonEscape(text_),
        static_cast<int64_t>(t.ttft_ms + t.decode_ms), info_.id, info_.created, JsonEscape(text_), Reason(),
        t.prompt_tokens, t.completion_tokens, t.prompt_tokens + t.completion_tokens);
  }

  void Fail(const dialect::ApiError& error, std::string& out) override {
    out += "data: " + ErrorBody(error) + "\n\n";
  }

 private:
  void Put(const Event& event, std::string& out) override {
    if (const auto* delta = std::get_if<TextDelta>(&event)) {
      if (delta->text.empty()) return;
      if (shape_.stream) {
        Frame(delta->text, false, out);
      } else {
        text_ += delta->text;
      }
    } else if (const auto* finished = std::get_if<Finished>(&event)) {
      reason_ = finished->reason;
    }
  }

  const char* Reason() const { return reason_ == FinishReason::kLength ? "length" : "stop"; }

  void Frame(std::string_view text, bool done, std::string& out) {
    const std::string content = JsonEscape(text);
    fmt::format_to(
        std::back_inserter(out),
        R"(data: {{"traceId":"{}","index":{},"content":"{}","done":{},"emittedAt":"{:%Y-%m-%dT%H:%M:%SZ}",)"
        R"("id":"{}","object":"text_completion.chunk","choices":[{{"index":0,"text":"{}","offset":{},"finish_reason":{}}}])",
        JsonEscape(shape_.trace_id), index_++, content, done,
        fmt::gmtime(static_cast<std::time_t>(info_.created)), info_.id, content, offset_,
        done ? fmt::format("\"{}\"", Reason()) : "null");
    if (!shape_.metadata.empty()) out += ",\"metadata\":" + shape_.metadata;
    out += "}\n\n";
    offset_ += CountCodePoints(text);
  }

  Shape shape_;
  const dialect::ResponseInfo info_;
  std::string text_;
  uint64_t index_ = 0, offset_ = 0;
  FinishReason reason_ = FinishReason::kStop;
};

void ReadGeneration(Fields& fields, RequestFacts& facts, Sampling& sampling) {
  json::object* object = fields.Object("generation");
  json::object none;
  Fields generation(object ? *object : none, "generation.");
  facts.max_tokens =
      static_cast<uint32_t>(generation.Integer("maxNewTokens", 1, kMaxNewTokens).value_or(kNewTokens));
  sampling.temperature = generation.Number("temperature", 0, 2).value_or(kTemperature);
  sampling.top_p = generation.Number("topP", 0, 1).value_or(kTopP);
  sampling.repetition_penalty = generation.Number("repetitionPenalty", 0.5, 10).value_or(kRepetitionPenalty);
  if (!generation.ok()) fields.Fail(generation.status());
}

Result<dialect::Call> Parse(std::string_view body, bool stream) {
  Result<json::object> object = dialect::ParseObject(body);
  if (!object) return Err(object.error());
  Fields fields(*object);
  dialect::Call call;
  Shape shape;
  RequestFacts facts;
  PayloadParts parts;
  facts.kind = Kind::kChat;  // a prompt alone is what one user says
  facts.needs = kCapChat;
  call.stream = shape.stream = stream;
  call.model = fields.String("modelId").value_or("");
  if (call.model.empty()) call.model = "default";
  if (call.model.size() > 512) fields.Fail("modelId", "is too long");
  facts.model = shape.model = call.model;
  facts.adapter = fields.String("adapter").value_or("");
  facts.priority = static_cast<int32_t>(fields.Integer("priority", -1000, 1000).value_or(0));
  const auto prompt = fields.String("prompt");
  if (!prompt || prompt->empty()) {
    fields.Fail("prompt", "is required");
  } else if (CountCodePoints(*prompt) > kMaxPromptChars) {
    fields.Fail("prompt", fmt::format("must have at most {} characters", kMaxPromptChars));
  }
  ReadGeneration(fields, facts, parts.sampling);
  if (const json::object* metadata = fields.Object("metadata")) {
    shape.trace_id = dialect::TextOf(*metadata, "traceId");
    shape.metadata = json::serialize(*metadata);
  }
  if (!fields.ok()) return Err(fields.status());
  dialect::PutMessages({{{"role", "user"}, {"content", *prompt}}}, facts, parts);
  call.id_prefix = "inf-";
  call.writer = [shape = std::move(shape)](dialect::ResponseInfo info) -> std::unique_ptr<dialect::Writer> {
    return std::make_unique<InferenceWriter>(shape, std::move(info));
  };
  call.requests.push_back({std::move(facts), Payload::Of(std::move(parts))});
  return call;
}

}  // namespace

const dialect::Dialect kDialect = {
    .stream_type = "text/event-stream; charset=utf-8",
    .ping = ": ping\n\n",
    .error_body = [](dialect::ApiError& error, std::string_view) { return ErrorBody(error); },
};

Result<dialect::Call> ParseInference(std::string_view body, const dialect::Limits&) {
  return Parse(body, false);
}
Result<dialect::Call> ParseInferenceStream(std::string_view body, const dialect::Limits&) {
  return Parse(body, true);
}

}  // namespace cyllm::legacy
