#include "gateway/dialects/common/messages.h"
#include "gateway/dialects/openai/format.h"
#include "gateway/dialects/openai/openai.h"
#include "gateway/dialects/openai/sampling.h"

namespace cyllm::openai {

namespace json = boost::json;
using dialect::Fields;

namespace {

void ReadMessages(Fields& fields, RequestFacts& facts, PayloadParts& parts) {
  json::array* messages = fields.Array("messages");
  if (!messages) return fields.Fail("messages", "is required");
  if (Status status = dialect::NormalizeMessages(*messages); !status.ok())
    return fields.Fail(std::move(status));
  dialect::PutMessages(*messages, facts, parts);
}

void ReadLogprobs(Fields& fields, Shape& shape, RequestFacts& facts, Sampling& sampling) {
  shape.logprobs = fields.Bool("logprobs").value_or(false);
  const auto top = fields.Integer("top_logprobs", 0, 20);
  if (top.value_or(0) > 0 && !shape.logprobs) fields.Fail("top_logprobs", "needs 'logprobs' to be true");
  if (!shape.logprobs) return;
  sampling.logprobs = true;
  sampling.top_logprobs = static_cast<uint32_t>(top.value_or(0));
  facts.needs |= kCapLogprobs;
}

void ReadTools(Fields& fields, RequestFacts& facts, PayloadParts& parts) {
  parts.parallel_tool_calls = fields.Bool("parallel_tool_calls").value_or(true);
  if (Status s = dialect::PutTools(fields.Array("tools"), fields.Find("tool_choice"), facts, parts); !s.ok())
    fields.Fail(std::move(s));
}

void ReadTemplateArguments(Fields& fields, PayloadParts& parts) {
  json::object* arguments = fields.Object("chat_template_kwargs");
  const auto effort = fields.String("reasoning_effort");
  if (!arguments && !effort) return;
  json::object out = arguments ? *arguments : json::object();
  if (effort) out.emplace("reasoning_effort", *effort);
  parts.template_kwargs_json = json::serialize(out);
}

void RefuseAudio(Fields& fields) {
  const json::array* modalities = fields.Array("modalities");
  if (!modalities) return;
  for (const json::value& m : *modalities) {
    if (!m.is_string() || m.get_string() != "text") fields.Fail("modalities", "must be [\"text\"]");
  }
}

}  // namespace

Result<dialect::Call> ParseChat(std::string_view body, const dialect::Limits& limits) {
  Result<json::object> object = dialect::ParseObject(body);
  if (!object) return Err(object.error());
  Fields fields(*object);
  dialect::Call call;
  Shape shape;
  RequestFacts facts;
  PayloadParts parts;
  facts.kind = Kind::kChat;
  facts.needs = kCapChat;
  ReadCommon(fields, limits, call, shape, facts, parts.sampling);
  facts.affinity = dialect::ReadAffinity(*object);
  facts.max_tokens = ReadMaxTokens(fields, "max_completion_tokens");
  const std::optional<uint32_t> old_name = ReadMaxTokens(fields, "max_tokens");
  if (!facts.max_tokens) facts.max_tokens = old_name;
  ReadMessages(fields, facts, parts);
  ReadLogprobs(fields, shape, facts, parts.sampling);
  ReadTools(fields, facts, parts);
  ReadFormat(fields, *object, facts, parts);
  NeedFormat(*object, facts);
  ReadTemplateArguments(fields, parts);
  RefuseAudio(fields);
  if (!fields.ok()) return Err(fields.status());
  parts.extra_json = fields.RestJson();
  call.requests.push_back({std::move(facts), Payload::Of(std::move(parts))});
  SetWriter(call, std::move(shape));
  return call;
}

}  // namespace cyllm::openai
