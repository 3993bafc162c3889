#include "upstream/openai/values.h"

#include <algorithm>
#include <boost/json.hpp>
#include <limits>

namespace cyllm::upstream {

namespace json = boost::json;

namespace {

uint32_t Count(const json::object& object, std::string_view key) {
  return static_cast<uint32_t>(
      std::clamp<int64_t>(ReadInteger(object, key).value_or(0), 0, std::numeric_limits<uint32_t>::max()));
}

uint32_t Detail(const json::object& object, std::string_view inner, std::string_view key) {
  const json::value* details = object.if_contains(inner);
  return details && details->is_object() ? Count(details->get_object(), key) : 0;
}

}  // namespace

std::string_view ReadText(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
}

std::optional<int64_t> ReadInteger(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value && value->is_int64() ? std::optional(value->get_int64()) : std::nullopt;
}

std::optional<double> ReadNumber(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (!value || !value->is_number()) return std::nullopt;
  json::error_code ec;
  const double number = value->to_number<double>(ec);
  return ec ? std::nullopt : std::optional(number);
}

std::optional<std::vector<int32_t>> ReadIds(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (!value || !value->is_array()) return std::nullopt;
  std::vector<int32_t> ids;
  ids.reserve(value->get_array().size());
  for (const json::value& id : value->get_array()) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() > std::numeric_limits<int32_t>::max())
      return std::nullopt;
    ids.push_back(static_cast<int32_t>(id.get_int64()));
  }
  return ids;
}

Usage ReadUsage(const json::object& object) {
  Usage usage;
  usage.prompt_tokens = Count(object, "prompt_tokens");
  usage.completion_tokens = Count(object, "completion_tokens");
  usage.cached_tokens = Detail(object, "prompt_tokens_details", "cached_tokens");
  usage.reasoning_tokens = Detail(object, "completion_tokens_details", "reasoning_tokens");
  return usage;
}

}  // namespace cyllm::upstream
