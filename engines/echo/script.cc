#include "echo/script.h"

#include <boost/json.hpp>

#include "sdk/engine.hpp"

namespace cyllm::echo {

namespace json = boost::json;

namespace {

constexpr size_t kPiece = 8;  // bytes of a token
constexpr int kDeepest = 16;
constexpr int64_t kMostItems = 16;

const json::value* Of(const json::value& v, std::string_view key) {
  return v.is_object() ? v.get_object().if_contains(key) : nullptr;
}
std::string Text(const json::value* v) { return v && v->is_string() ? std::string(v->get_string()) : ""; }
int64_t Number(const json::value* v) {
  json::error_code failed;
  const int64_t n = v && v->is_number() ? v->to_number<int64_t>(failed) : 0;
  return failed ? 0 : n;
}

// A value that satisfies what schemas usually ask for.
json::value Instance(const json::value& schema, int depth = 0) {
  if (const json::value* v = Of(schema, "const")) return *v;
  if (const json::value* v = Of(schema, "enum"); v && v->is_array() && !v->get_array().empty())
    return v->get_array()[0];
  for (const char* of : {"anyOf", "oneOf", "allOf"})
    if (const json::value* v = Of(schema, of);
        v && v->is_array() && !v->get_array().empty() && depth < kDeepest)
      return Instance(v->get_array()[0], depth + 1);
  const json::value* given = Of(schema, "type");
  const std::string type =
      given && given->is_array() && !given->get_array().empty() ? Text(&given->get_array()[0]) : Text(given);
  if (type == "string") {
    const int64_t length = Number(Of(schema, "minLength"));
    return json::string(static_cast<size_t>(std::max<int64_t>(std::min<int64_t>(length, 4096), 0)), 'x');
  }
  if (type == "integer" || type == "number") return Number(Of(schema, "minimum"));
  if (type == "boolean") return false;
  if (type == "null" || depth >= kDeepest) return nullptr;
  if (type == "array") {
    json::array out;
    const json::value* items = Of(schema, "items");
    for (int64_t i = 0; i < std::min(Number(Of(schema, "minItems")), kMostItems); ++i)
      out.push_back(items ? Instance(*items, depth + 1) : json::value(nullptr));
    return out;
  }
  json::object out;
  const json::value* properties = Of(schema, "properties");
  const json::value* required = Of(schema, "required");
  if (properties && required && required->is_array()) {
    for (const json::value& key : required->get_array())
      if (const json::value* property = Of(*properties, Text(&key)))
        out[Text(&key)] = Instance(*property, depth + 1);
  }
  return out;
}

std::vector<std::string> Pieces(const std::string& text) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(at + kPiece, text.size());
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
    out.push_back(text.substr(at, end - at));
    at = end;
  }
  return out;
}

std::optional<json::value> Parse(cyllm_str text) {
  json::error_code failed;
  json::value v = json::parse(sdk::View(text), failed);
  if (failed) return std::nullopt;
  return v;
}

// The tool to call, if one is to be called.
const json::value* Called(const json::array& tools, const std::string& choice, const std::string& named,
                          std::string_view asked) {
  if (choice == "none") return nullptr;
  for (const json::value& tool : tools) {
    const json::value* function = Of(tool, "function");
    const std::string name = function ? Text(Of(*function, "name")) : "";
    if (name.empty()) continue;
    if (!named.empty() ? name == named : choice == "required" || asked.find(name) != std::string_view::npos)
      return function;
  }
  return nullptr;
}

// The call that the user's words dictate: a tool's name and, right after it, its arguments.
std::optional<Script> Dictated(const json::array& tools, std::string_view asked) {
  for (const json::value& tool : tools) {
    const json::value* function = Of(tool, "function");
    const std::string name = function ? Text(Of(*function, "name")) : "";
    const size_t at = name.empty() ? std::string_view::npos : asked.find(name + " {");
    if (at == std::string_view::npos) continue;
    std::string_view arguments = asked.substr(at + name.size() + 1);
    json::stream_parser parser;
    json::error_code failed;
    arguments = arguments.substr(0, parser.write_some(arguments, failed));
    if (failed || !parser.done()) continue;
    arguments = arguments.substr(0, arguments.rfind('}') + 1);
    return Script{name, Pieces(std::string(arguments)), true};
  }
  return std::nullopt;
}

}  // namespace

std::optional<Script> ReadScript(const cyllm_request& request, std::string_view asked, std::string* error) {
  if (request.tools_json.len > 0) {
    const std::optional<json::value> tools = Parse(request.tools_json);
    if (!tools || !tools->is_array()) {
      *error = "tools must be an array";
      return std::nullopt;
    }
    const json::value choice =
        request.tool_choice_json.len > 0 ? Parse(request.tool_choice_json).value_or(nullptr) : nullptr;
    const json::value* function = Of(choice, "function");
    const std::string named = function ? Text(Of(*function, "name")) : "";
    if (std::optional<Script> call =
            named.empty() && Text(&choice) != "none" ? Dictated(tools->get_array(), asked) : std::nullopt)
      return call;
    if (const json::value* f = Called(tools->get_array(), Text(&choice), named, asked)) {
      const json::value* parameters = Of(*f, "parameters");
      const json::value arguments = parameters ? Instance(*parameters) : json::object();
      return Script{Text(Of(*f, "name")), Pieces(json::serialize(arguments))};
    }
    if (!named.empty()) {
      *error = "tool_choice names no function of tools";
      return std::nullopt;
    }
  }
  if (request.response_format_json.len == 0) return std::nullopt;
  const std::optional<json::value> format = Parse(request.response_format_json);
  const std::string type = format ? Text(Of(*format, "type")) : "";
  if (type == "text") return std::nullopt;
  const json::value* outer = format ? Of(*format, "json_schema") : nullptr;
  const json::value* schema = outer ? Of(*outer, "schema") : nullptr;
  if (type == "json_object") return Script{"", Pieces("{}")};
  if (type != "json_schema" || !schema || !schema->is_object() || Of(*schema, "$ref")) {
    *error = "response_format must be a json_object or a json_schema";
    return std::nullopt;
  }
  return Script{"", Pieces(json::serialize(Instance(*schema)))};
}

}  // namespace cyllm::echo
