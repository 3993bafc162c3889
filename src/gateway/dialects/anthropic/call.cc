#include <limits>

#include "gateway/dialects/anthropic/anthropic.h"
#include "gateway/dialects/anthropic/messages.h"
#include "gateway/dialects/anthropic/writer.h"
#include "gateway/dialects/common/messages.h"

namespace cyllm::anthropic {

namespace json = boost::json;
using dialect::Fields;

namespace {

constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxStops = 64;

void ReadTools(Fields& fields, RequestFacts& facts, PayloadParts& parts) {
  const json::array* given = fields.Array("tools");
  const json::object* choice = fields.Object("tool_choice");
  json::array tools;
  if (given) {
    Result<json::array> mapped = ToolsOf(*given);
    if (!mapped) return fields.Fail(mapped.error());
    tools = std::move(*mapped);
  }
  json::value mapped_choice;
  if (choice) {
    Result<json::value> mapped = ToolChoiceOf(*choice);
    if (!mapped) return fields.Fail(mapped.error());
    mapped_choice = std::move(*mapped);
    const json::value* one = choice->if_contains("disable_parallel_tool_use");
    parts.parallel_tool_calls = !(one && one->is_bool() && one->get_bool());
  }
  if (Status s = dialect::PutTools(&tools, choice ? &mapped_choice : nullptr, facts, parts); !s.ok())
    fields.Fail(std::move(s));
}

// `output_config.format`, and `output_format` of the older beta.
void ReadFormat(Fields& fields, RequestFacts& facts, PayloadParts& parts) {
  const json::object* format = fields.Object("output_format");
  if (const json::object* config = fields.Object("output_config"); config && !format) {
    const json::value* value = config->if_contains("format");
    if (value && !value->is_null()) {
      format = value->if_object();
      if (!format) return fields.Fail("output_config.format", "must be an object");
    }
  }
  if (!format) return;
  const json::value* schema = format->if_contains("schema");
  if (dialect::TextOf(*format, "type") != "json_schema" || !schema || !schema->is_object())
    return fields.Fail("output_config.format", "must be of type json_schema, with a schema");
  const json::object mapped = {{"type", "json_schema"},
                               {"json_schema", {{"name", "output"}, {"strict", true}, {"schema", *schema}}}};
  if (Status s = dialect::PutResponseFormat(mapped, facts, parts); !s.ok()) fields.Fail(std::move(s));
}

void ReadThinking(Fields& fields, PayloadParts& parts) {
  const json::object* thinking = fields.Object("thinking");
  if (!thinking) return;
  const std::string_view type = dialect::TextOf(*thinking, "type");
  if (type == "enabled" || type == "adaptive") {
    parts.template_kwargs_json = R"({"enable_thinking":true})";
  } else if (type == "disabled") {
    parts.template_kwargs_json = R"({"enable_thinking":false})";
  } else {
    fields.Fail("thinking.type", "must be enabled, disabled or adaptive");
  }
}

void ReadSampling(Fields& fields, Sampling& sampling) {
  sampling.temperature = fields.Number("temperature", 0, 2);
  sampling.top_p = fields.Number("top_p", 0, 1);
  if (const auto top_k = fields.Integer("top_k", -1, kMaxTokens))
    sampling.top_k = static_cast<int32_t>(*top_k);
  if (auto stops = fields.Strings("stop_sequences", kMaxStops)) sampling.stop = std::move(*stops);
  std::erase(sampling.stop, std::string());
}

Result<dialect::Call> Parse(std::string_view body, bool count_only) {
  Result<json::object> object = dialect::ParseObject(body);
  if (!object) return Err(object.error());
  Fields fields(*object);
  dialect::Call call;
  RequestFacts facts;
  PayloadParts parts;
  facts.kind = Kind::kChat;
  facts.needs = kCapChat;
  facts.model = call.model = dialect::ReadModel(fields);
  if (const json::value* metadata = fields.Find("metadata"); metadata && metadata->is_object())
    facts.affinity = dialect::AffinityOf(dialect::TextOf(metadata->get_object(), "user_id"));
  if (count_only) {
    facts.max_tokens = 0;
  } else {
    call.stream = fields.Bool("stream").value_or(false);
    const auto max_tokens = fields.Integer("max_tokens", 1, kMaxTokens);
    if (!max_tokens) fields.Fail("max_tokens", "is required");
    facts.max_tokens = static_cast<uint32_t>(max_tokens.value_or(0));
  }
  Result<json::array> messages = MessagesOf(fields);
  if (!messages) {
    fields.Fail(messages.error());
  } else if (Status s = dialect::NormalizeMessages(*messages); !s.ok()) {
    fields.Fail(std::move(s));
  } else {
    dialect::PutMessages(*messages, facts, parts);
  }
  ReadSampling(fields, parts.sampling);
  ReadTools(fields, facts, parts);
  ReadFormat(fields, facts, parts);
  ReadThinking(fields, parts);
  if (!fields.ok()) return Err(fields.status());
  call.id_prefix = "msg_";
  call.writer = [model = call.model, stream = call.stream,
                 count_only](dialect::ResponseInfo info) -> std::unique_ptr<dialect::Writer> {
    if (count_only) return std::make_unique<CountWriter>();
    if (stream) return std::make_unique<StreamWriter>(model, std::move(info));
    return std::make_unique<MessageWriter>(model, std::move(info));
  };
  call.requests.push_back({std::move(facts), Payload::Of(std::move(parts))});
  return call;
}

}  // namespace

Result<dialect::Call> ParseMessages(std::string_view body, const dialect::Limits&) {
  return Parse(body, false);
}
Result<dialect::Call> ParseCountTokens(std::string_view body, const dialect::Limits&) {
  return Parse(body, true);
}

}  // namespace cyllm::anthropic
