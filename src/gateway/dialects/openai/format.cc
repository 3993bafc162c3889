#include "gateway/dialects/openai/format.h"

#include <algorithm>

#include "gateway/dialects/common/messages.h"

namespace cyllm::openai {

namespace json = boost::json;
using dialect::Fields;

namespace {

constexpr const char* kOutputs = "structured_outputs";
// Names that vLLM and llama-server have for a schema, and for other forms.
constexpr const char* kSchemas[] = {"guided_json", "json_schema"};
constexpr const char* kOthers[] = {"guided_regex", "guided_choice", "guided_grammar", "grammar", kOutputs};

// llama-server's clients send an empty `grammar` for none.
bool Asks(const json::object& body, std::string_view name) {
  const json::value* value = body.if_contains(name);
  if (!value || value->is_null() || (name == "grammar" && *value == "")) return false;
  return name != "response_format" || !value->is_object() ||
         dialect::TextOf(value->get_object(), "type") != "text";
}

struct Schema {
  const char* name = nullptr;  // null: there is none
  const json::value* value = nullptr;
};

Schema FindSchema(Fields& fields, const json::object& body) {
  if (const json::value* outputs = body.if_contains(kOutputs); outputs && outputs->is_object()) {
    const json::object& kinds = outputs->get_object();
    if (kinds.size() == 1 && kinds.contains("json"))
      return {kOutputs, &fields.Find(kOutputs)->get_object().at("json")};
  }
  for (const char* name : kSchemas)
    if (const json::value* schema = fields.Find(name)) return {name, schema};
  return {};
}

// Another field that the body has beside the schema; null: none.
const char* Other(const json::object& body, const char* name) {
  if (Asks(body, "response_format")) return "response_format";
  const auto other = [&](const char* n) { return std::string_view(n) != name && Asks(body, n); };
  for (const auto& [begin, end] : {std::pair(std::begin(kSchemas), std::end(kSchemas)),
                                   std::pair(std::begin(kOthers), std::end(kOthers))})
    if (const auto* it = std::find_if(begin, end, other); it != end) return *it;
  return nullptr;
}

}  // namespace

void ReadFormat(Fields& fields, const json::object& body, RequestFacts& facts, PayloadParts& parts) {
  const json::object* format = fields.Object("response_format");
  const Schema schema = FindSchema(fields, body);
  json::object of_schema;
  if (schema.name) {
    if (const char* other = Other(body, schema.name))
      return fields.Fail(schema.name, "cannot be used together with '" + std::string(other) + "'");
    json::error_code ec;
    json::parse_options options;
    options.max_depth = 64;  // as bodies may have
    const json::value read =
        schema.value->is_string() ? json::parse(schema.value->get_string(), ec, {}, options) : *schema.value;
    if (ec || !read.is_object()) return fields.Fail(schema.name, "must hold a JSON schema, an object");
    of_schema = {{"type", "json_schema"}, {"json_schema", {{"name", "answer"}, {"schema", read}}}};
    format = &of_schema;
  }
  if (!format) return;
  if (Status s = dialect::PutResponseFormat(*format, facts, parts); !s.ok()) fields.Fail(std::move(s));
}

void NeedFormat(const json::object& body, RequestFacts& facts) {
  const auto asks = [&](const char* name) { return Asks(body, name); };
  if (asks("response_format") || std::ranges::any_of(kSchemas, asks) || std::ranges::any_of(kOthers, asks))
    facts.needs |= kCapJsonSchema;
}

}  // namespace cyllm::openai
