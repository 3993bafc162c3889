// What a schema may cost before it is looked at closer: llama.cpp's conversion recurses by its depth, is
// quadratic in the optional properties of an object, and runs regular expressions over names.
#include <boost/json.hpp>

#include "llama_cpp/schema_grammar.h"

namespace cyllm::llama {

namespace json = boost::json;

namespace {

constexpr size_t kMaxBytes = 1 << 20, kMaxDepth = 64;
constexpr size_t kMaxShownDepth = 512;
constexpr size_t kMaxValues = 50'000;       // JSON values in all
constexpr size_t kMaxProperties = 256;      // of one object
constexpr size_t kMaxName = 256;            // bytes of a property's name or a reference
constexpr size_t kMaxText = 4 << 10;        // bytes of another string, but for what is for readers
constexpr int64_t kMaxRepetition = 10'000;  // minItems and the like

bool IsForReaders(std::string_view key) {
  return key == "description" || key == "title" || key == "$comment";
}

// Takes out what is no bound in practice; says whether there was any.
bool DropHugeMaxima(json::object& object) {
  bool dropped = false;
  for (const std::string_view key : {"maxItems", "maxLength"}) {
    const json::value* value = object.if_contains(key);
    json::error_code failed;
    if (!value || !value->is_number() || !(value->to_number<double>(failed) > kMaxRepetition)) continue;
    object.stable_erase(key);
    dropped = true;
  }
  return dropped;
}

// The first thing that is too large.
std::string Look(json::value& value, size_t* values, bool* changed) {
  if (++*values > kMaxValues) return "it has more than " + std::to_string(kMaxValues) + " values";
  if (const json::string* text = value.if_string(); text && text->size() > kMaxText)
    return "a text in it is longer than " + std::to_string(kMaxText) + " bytes";
  if (json::array* array = value.if_array()) {
    for (json::value& item : *array)
      if (std::string why = Look(item, values, changed); !why.empty()) return why;
  }
  json::object* object = value.if_object();
  if (!object) return {};
  *changed |= DropHugeMaxima(*object);
  if (object->size() > kMaxProperties)
    return "an object in it has more than " + std::to_string(kMaxProperties) + " properties";
  for (auto& entry : *object) {
    const std::string_view key = entry.key();
    json::value& item = entry.value();
    if (item.is_string() && IsForReaders(key)) continue;
    if (key.size() > kMaxName || (key == "$ref" && item.is_string() && item.get_string().size() > kMaxName))
      return "a name in it is longer than " + std::to_string(kMaxName) + " bytes";
    const bool counts = key == "minItems" || key == "maxItems" || key == "minLength" || key == "maxLength";
    if (counts && item.is_number()) {
      json::error_code failed;
      const auto n = item.to_number<int64_t>(failed);
      if (failed || n < 0 || n > kMaxRepetition)
        return "'" + std::string(key) + "' must be a whole number from 0 to " +
               std::to_string(kMaxRepetition);
    }
    if (std::string why = Look(item, values, changed); !why.empty()) return why;
  }
  return {};
}

}  // namespace

bool IsDeepJson(std::string_view text) {
  json::error_code failed;
  json::parse_options options;
  options.max_depth = kMaxShownDepth;
  json::parse(text, failed, {}, options);
  return failed == json::error::too_deep;
}

std::optional<std::string> BoundedSchema(std::string_view schema_json, std::string* error) {
  const auto wrong = [&](std::string why) {
    *error = std::move(why);
    return std::nullopt;
  };
  if (schema_json.size() > kMaxBytes)
    return wrong("it is longer than " + std::to_string(kMaxBytes) + " bytes");
  json::error_code failed;
  json::parse_options options;
  options.max_depth = kMaxDepth;
  json::value schema = json::parse(schema_json, failed, {}, options);
  if (failed == json::error::too_deep)
    return wrong("it is deeper than " + std::to_string(kMaxDepth) + " levels");
  if (failed) return wrong("it is no JSON");
  size_t values = 0;
  bool changed = false;
  if (std::string why = Look(schema, &values, &changed); !why.empty()) return wrong(std::move(why));
  return changed ? json::serialize(schema) : std::string(schema_json);
}

std::string WithPrefix(std::string_view gbnf, std::string_view prefix) {
  const auto name = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  };
  std::string out;
  for (size_t i = 0; i < gbnf.size();) {
    const char c = gbnf[i];
    size_t end = i + 1;
    if (c == '"' || c == '[' || c == '{') {
      const char close = c == '"' ? '"' : c == '[' ? ']' : '}';
      while (end < gbnf.size() && gbnf[end] != close) end += gbnf[end] == '\\' ? 2 : 1;
      end = std::min(end + 1, gbnf.size());
    } else if (name(c)) {
      while (end < gbnf.size() && name(gbnf[end])) ++end;
      out += prefix;
    }
    out += gbnf.substr(i, end - i);
    i = end;
  }
  return out;
}

}  // namespace cyllm::llama
