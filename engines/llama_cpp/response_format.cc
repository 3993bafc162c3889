#include "llama_cpp/response_format.h"

#include <algorithm>
#include <boost/json.hpp>
#include <optional>
#include <vector>

#include "llama_cpp/literal_grammar.h"
#include "llama_cpp/regex_grammar.h"
#include "llama_cpp/schema_grammar.h"

namespace cyllm::llama {

namespace json = boost::json;

namespace {

constexpr size_t kMaxDepth = 128;

std::optional<json::value> Parse(std::string_view text, std::string* why) {
  json::error_code failed;
  json::parse_options options;
  options.max_depth = kMaxDepth;
  json::value value = json::parse(text, failed, {}, options);
  if (!failed) return value;
  *why = failed == json::error::too_deep ? "it is nested too deeply" : "it is no JSON";
  return std::nullopt;
}

bool Take(std::optional<std::string> grammar, std::string* gbnf) {
  if (grammar) *gbnf = std::move(*grammar);
  return grammar.has_value();
}

// Each reads a field's value into a grammar. False and `why` when it is not what it should be.

bool OfSchema(const json::value& value, std::string* gbnf, std::string* why) {
  const std::optional<json::value> read = value.is_string() ? Parse(value.get_string(), why) : value;
  if (!read) return false;
  if (!read->is_object()) {
    *why = "a JSON schema, an object, is expected";
    return false;
  }
  if (Take(SchemaGrammar(json::serialize(*read), why), gbnf)) return true;
  *why = "the schema cannot be held to: " + *why;
  return false;
}

bool OfGrammar(const json::value& value, std::string* gbnf, std::string* why) {
  *why = "a grammar in GBNF is expected";
  if (!value.is_string() || value.get_string().empty()) return false;
  *gbnf = std::string(value.get_string());
  return true;
}

bool OfRegex(const json::value& value, std::string* gbnf, std::string* why) {
  *why = "a text is expected";
  return value.is_string() && Take(RegexGrammar(value.get_string(), why), gbnf);
}

bool OfChoice(const json::value& value, std::string* gbnf, std::string* why) {
  *why = "a list of texts is expected";
  if (!value.is_array()) return false;
  std::vector<std::string_view> texts;
  for (const json::value& text : value.get_array()) {
    if (!text.is_string()) return false;
    texts.emplace_back(text.get_string());
  }
  return Take(LiteralGrammar(texts, why), gbnf);
}

bool OfObject(const json::value& value, std::string* gbnf, std::string* why) {
  *why = "true or false is expected";
  if (!value.is_bool()) return false;
  *gbnf = ObjectGrammar();
  return true;
}

bool OfResponse(const json::value& value, std::string* gbnf, std::string* why) {
  *why = "an object with a 'type' is expected";
  const json::object* format = value.if_object();
  const json::value* type = format ? format->if_contains("type") : nullptr;
  if (!type || !type->is_string()) return false;
  const std::string_view name = type->get_string();
  const json::value* schema = format->if_contains("schema");
  if (name == "json_object" && (!schema || schema->is_null())) return OfObject(true, gbnf, why);
  if (name == "grammar") {
    const json::value* grammar = format->if_contains("grammar");
    return OfGrammar(grammar ? *grammar : json::value(), gbnf, why);
  }
  *why = "'type' must be text, json_object, json_schema or grammar";
  if (name != "json_schema" && name != "json_object") return false;
  const json::value* outer = format->if_contains("json_schema");
  const json::value* inner =
      outer && outer->is_object() ? outer->get_object().if_contains("schema") : nullptr;
  if (inner) schema = inner;
  *why = "'json_schema' must have an object 'schema'";
  return schema && schema->is_object() && OfSchema(*schema, gbnf, why);
}

struct Kind {
  const char* name;
  bool (*read)(const json::value& value, std::string* gbnf, std::string* why);
};
constexpr Kind kFields[] = {{"response_format", OfResponse}, {"guided_json", OfSchema},
                            {"json_schema", OfSchema},       {"guided_regex", OfRegex},
                            {"guided_choice", OfChoice},     {"guided_grammar", OfGrammar},
                            {"grammar", OfGrammar}};
constexpr const char* kOutputs = "structured_outputs";
constexpr Kind kOutputKinds[] = {{"json", OfSchema},
                                 {"regex", OfRegex},
                                 {"choice", OfChoice},
                                 {"grammar", OfGrammar},
                                 {"json_object", OfObject}};

struct Found {
  const char* param;
  std::string shown;
  const Kind* kind;
  const json::value* value;
};

// Whether the field asks for anything. llama-server's clients send an empty `grammar` for none.
bool Asks(std::string_view name, const json::value& value) {
  if (value.is_null()) return false;
  if (name == "grammar") return !value.is_string() || !value.get_string().empty();
  if (name == "json_object") return !value.is_bool() || value.get_bool();
  const json::object* format = name == "response_format" ? value.if_object() : nullptr;
  const json::value* type = format ? format->if_contains("type") : nullptr;
  return !type || *type != "text";
}

void FindFields(const json::object& extra, std::vector<Found>* out) {
  for (const Kind& kind : kFields)
    if (const json::value* value = extra.if_contains(kind.name); value && Asks(kind.name, *value))
      out->push_back({kind.name, kind.name, &kind, value});
}

// Wishes about white space and the like, which change nothing about what is valid.
bool IsWish(std::string_view name) { return name.starts_with("disable_") || name == "whitespace_pattern"; }

bool FindOutputs(const json::object& extra, std::vector<Found>* out, std::string* error) {
  const json::value* outputs = extra.if_contains(kOutputs);
  if (!outputs || outputs->is_null()) return true;
  *error = std::string(kOutputs) + ": an object is expected";
  if (!outputs->is_object()) return false;
  for (const auto& member : outputs->get_object()) {
    const std::string_view name = member.key();
    if (!Asks(name, member.value()) || IsWish(name)) continue;
    const Kind* kind = std::ranges::find_if(kOutputKinds, [&](const Kind& k) { return name == k.name; });
    *error = std::string(kOutputs) + ": '" + std::string(name.substr(0, 64)) + "' is not offered";
    if (kind == std::end(kOutputKinds)) return false;
    out->push_back({kOutputs, kOutputs + ("." + std::string(name)), kind, &member.value()});
  }
  return true;
}

}  // namespace

bool ReadFormat(std::string_view response_format, std::string_view extra, Format* out, std::string* error) {
  *out = {};
  std::string why;
  const auto wrong = [&](const std::string& field) {
    *error = field + ": " + why;
    return false;
  };
  std::vector<Found> found;
  std::optional<json::value> format, others;
  if (!response_format.empty()) {
    format = Parse(response_format, &why);
    if (!format) return wrong(out->param);
    if (Asks(kFields[0].name, *format)) found.push_back({out->param, out->param, &kFields[0], &*format});
  }
  if (!extra.empty()) {
    others = Parse(extra, &why);
    if (!others || !others->is_object()) return wrong("extra_json");
    FindFields(others->get_object(), &found);
    if (!FindOutputs(others->get_object(), &found, error)) return out->param = kOutputs, false;
  }
  if (found.empty()) return true;
  const Found& field = found.back();
  out->param = field.param;
  why = "cannot be used together with " + found.front().shown;
  if (found.size() > 1) return wrong(field.shown);
  return field.kind->read(*field.value, &out->gbnf, &why) || wrong(field.shown);
}

}  // namespace cyllm::llama
