#include <algorithm>
#include <limits>

#include "gateway/dialects/common/messages.h"
#include "gateway/dialects/responses/items.h"
#include "gateway/dialects/responses/responses.h"
#include "gateway/dialects/responses/writer.h"

namespace cyllm::responses {

namespace json = boost::json;
using dialect::Fields;

namespace {

constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();

void RefuseMemory(Fields& fields) {
  for (const char* name : {"previous_response_id", "conversation", "prompt"}) {
    if (fields.Has(name))
      fields.Fail(
          InvalidArgument(std::string("'") + name +
                              "' is not supported: nothing is stored. Send the whole history as 'input'.",
                          name, "unsupported"));
  }
  if (fields.Bool("background").value_or(false))
    fields.Fail(InvalidArgument("'background' is not supported.", "background", "unsupported"));
}

void ReadTools(Fields& fields, RequestFacts& facts, PayloadParts& parts) {
  const json::array* given = fields.Array("tools");
  json::array tools;
  if (given) {
    Result<json::array> mapped = ToolsOf(*given);
    if (!mapped) return fields.Fail(mapped.error());
    tools = std::move(*mapped);
  }
  const json::value* choice = fields.Find("tool_choice");
  const json::value mapped_choice = choice ? ToolChoiceOf(*choice) : json::value();
  parts.parallel_tool_calls = fields.Bool("parallel_tool_calls").value_or(true);
  if (Status s = dialect::PutTools(&tools, choice ? &mapped_choice : nullptr, facts, parts); !s.ok())
    fields.Fail(std::move(s));
}

// text.format: flat, where chats nest.
void ReadFormat(Fields& fields, RequestFacts& facts, PayloadParts& parts) {
  json::object* text = fields.Object("text");
  if (!text) return;
  Fields inner(*text, "text.");
  const json::object* format = inner.Object("format");
  if (!inner.ok()) return fields.Fail(inner.status());
  if (!format) return;
  if (dialect::TextOf(*format, "type") != "json_schema") {
    if (Status s = dialect::PutResponseFormat(*format, facts, parts); !s.ok()) fields.Fail(std::move(s));
    return;
  }
  json::object nested = *format;
  nested.erase("type");
  const json::object mapped = {{"type", "json_schema"}, {"json_schema", std::move(nested)}};
  if (Status s = dialect::PutResponseFormat(mapped, facts, parts); !s.ok())
    fields.Fail(InvalidArgument("'text.format.schema' must be an object.", "text.format.schema"));
}

void ReadReasoning(Fields& fields, PayloadParts& parts) {
  json::object* reasoning = fields.Object("reasoning");
  if (!reasoning) return;
  Fields inner(*reasoning, "reasoning.");
  if (const auto effort = inner.String("effort"))
    parts.template_kwargs_json = json::serialize(json::object{{"reasoning_effort", *effort}});
  if (!inner.ok()) fields.Fail(inner.status());
}

// Asked for by either; what else `include` names has no effect.
void ReadLogprobs(Fields& fields, Shape& shape, RequestFacts& facts, Sampling& sampling) {
  const auto top = fields.Integer("top_logprobs", 0, 20);
  shape.logprobs = top.value_or(0) > 0;
  if (const json::array* include = fields.Array("include"))
    shape.logprobs |=
        std::ranges::find(*include, json::value("message.output_text.logprobs")) != include->end();
  if (!shape.logprobs) return;
  sampling.logprobs = true;
  sampling.top_logprobs = static_cast<uint32_t>(top.value_or(0));
  facts.needs |= kCapLogprobs;
}

// The request's parameters as every response repeats them, from a comma on.
std::string Echo(const Fields& fields, const RequestFacts& facts) {
  std::string out;
  const auto add = [&](const char* name, const json::value& fallback) {
    const json::value* value = fields.Find(name);
    out += std::string(",\"") + name + "\":" + json::serialize(value ? *value : fallback);
  };
  add("instructions", nullptr);
  out += facts.max_tokens ? ",\"max_output_tokens\":" + std::to_string(*facts.max_tokens)
                          : ",\"max_output_tokens\":null";
  add("metadata", json::object());
  add("parallel_tool_calls", true);
  add("reasoning", {{"effort", nullptr}, {"summary", nullptr}});
  add("temperature", 1.0);
  add("text", {{"format", {{"type", "text"}}}});
  add("tool_choice", "auto");
  add("tools", json::array());
  add("top_logprobs", 0);
  add("top_p", 1.0);
  add("truncation", "disabled");
  return out + R"(,"background":false,"previous_response_id":null,"store":false,"user":null)";
}

Result<dialect::Call> ParseBody(std::string_view body, bool count_only) {
  Result<json::object> object = dialect::ParseObject(body);
  if (!object) return Err(object.error());
  Fields fields(*object);
  dialect::Call call;
  Shape shape;
  RequestFacts facts;
  PayloadParts parts;
  facts.kind = Kind::kChat;
  facts.needs = kCapChat;
  facts.model = shape.model = call.model = dialect::ReadModel(fields);
  facts.affinity = dialect::ReadAffinity(*object);
  RefuseMemory(fields);
  call.stream = !count_only && fields.Bool("stream").value_or(false);
  if (const auto max = fields.Integer("max_output_tokens", 1, kMaxTokens))
    facts.max_tokens = static_cast<uint32_t>(*max);
  parts.sampling.temperature = fields.Number("temperature", 0, 2);
  parts.sampling.top_p = fields.Number("top_p", 0, 1);
  ReadTools(fields, facts, parts);
  ReadFormat(fields, facts, parts);
  ReadReasoning(fields, parts);
  ReadLogprobs(fields, shape, facts, parts.sampling);
  Result<json::array> messages = MessagesOf(fields);
  if (!messages) {
    fields.Fail(messages.error());
  } else if (Status s = dialect::NormalizeMessages(*messages); !s.ok()) {
    fields.Fail(InvalidArgument(s.message, "input", s.reason));
  } else {
    dialect::PutMessages(*messages, facts, parts);
  }
  if (!fields.ok()) return Err(fields.status());
  call.id_prefix = "resp_";
  shape.echo = Echo(fields, facts);
  if (count_only) facts.max_tokens = 0;
  call.writer = [shape = std::move(shape), stream = call.stream,
                 count_only](dialect::ResponseInfo info) -> std::unique_ptr<dialect::Writer> {
    if (count_only) return std::make_unique<CountWriter>();
    return std::make_unique<ResponseWriter>(shape, std::move(info), stream);
  };
  call.requests.push_back({std::move(facts), Payload::Of(std::move(parts))});
  return call;
}

}  // namespace

Result<dialect::Call> Parse(std::string_view body, const dialect::Limits&) { return ParseBody(body, false); }
Result<dialect::Call> ParseInputTokens(std::string_view body, const dialect::Limits&) {
  return ParseBody(body, true);
}

}  // namespace cyllm::responses
