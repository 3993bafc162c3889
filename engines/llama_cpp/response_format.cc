#include "llama_cpp/response_format.h"

#include <boost/json.hpp>
#include <optional>

#include "llama_cpp/schema_grammar.h"

namespace cyllm::llama {

namespace json = boost::json;

bool FormatGrammar(std::string_view response_format_json, std::string* gbnf, std::string* error) {
  gbnf->clear();
  if (response_format_json.empty()) return true;
  json::error_code failed;
  json::parse_options options;
  options.max_depth = 128;
  const json::value format = json::parse(response_format_json, failed, {}, options);
  const auto wrong = [&](const std::string& what) {
    *error = "response_format: " + what;
    return false;
  };
  if (failed == json::error::too_deep) return wrong("it is nested too deeply");
  const json::value* type = !failed && format.is_object() ? format.get_object().if_contains("type") : nullptr;
  if (!type || !type->is_string()) return wrong("an object with a 'type' is expected");
  const std::string_view name = type->get_string();
  if (name == "text") return true;
  const json::value* own = format.get_object().if_contains("schema");
  if (name == "json_object" && (!own || own->is_null())) {
    *gbnf = ObjectGrammar();
    return true;
  }
  if (name == "grammar") {
    const json::value* grammar = format.get_object().if_contains("grammar");
    if (!grammar || !grammar->is_string()) return wrong("'grammar' must be a GBNF text");
    *gbnf = std::string(grammar->get_string());
    return !gbnf->empty() || wrong("'grammar' must be a GBNF text");
  }
  if (name != "json_schema" && name != "json_object")
    return wrong("'type' must be text, json_object, json_schema or grammar");
  const json::value* inner = format.get_object().if_contains("json_schema");
  const json::value* schema =
      inner && inner->is_object() ? inner->get_object().if_contains("schema") : nullptr;
  if (!schema) schema = format.get_object().if_contains("schema");
  if (!schema || !schema->is_object()) return wrong("'json_schema' must have an object 'schema'");
  std::string why;
  const std::optional<std::string> grammar = SchemaGrammar(json::serialize(*schema), &why);
  if (!grammar) return wrong("the schema cannot be held to: " + why);
  *gbnf = *grammar;
  return true;
}

}  // namespace cyllm::llama
