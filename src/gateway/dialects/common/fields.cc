#include "gateway/dialects/common/fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "inference/prefix_hash.h"

namespace cyllm::dialect {

namespace json = boost::json;

std::string Shown(const json::value& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  if (value.is_string() && value.get_string().size() > 40) return "a long text";
  return json::serialize(value);
}

json::value* Fields::Find(std::string_view name) const {
  asked_.push_back(name);
  json::value* value = object_.if_contains(name);
  return value && !value->is_null() ? value : nullptr;
}

std::string Fields::RestJson() const {
  std::string rest;
  for (const auto& [key, value] : object_) {
    if (std::ranges::find(asked_, std::string_view(key)) != asked_.end()) continue;
    rest += rest.empty() ? '{' : ',';
    rest += json::serialize(key) + ':' + json::serialize(value);
  }
  return rest.empty() ? rest : rest + '}';
}

std::optional<bool> Fields::Bool(std::string_view name) {
  const json::value* value = Find(name);
  if (!value) return std::nullopt;
  if (value->is_bool()) return value->get_bool();
  Fail(name, "must be true or false, not " + Shown(*value));
  return std::nullopt;
}

std::optional<std::string> Fields::String(std::string_view name) {
  const json::value* value = Find(name);
  if (!value) return std::nullopt;
  if (value->is_string()) return std::string(value->get_string());
  Fail(name, "must be a string, not " + Shown(*value));
  return std::nullopt;
}

std::optional<int64_t> Fields::Integer(std::string_view name, int64_t min, int64_t max) {
  const json::value* value = Find(name);
  if (!value) return std::nullopt;
  std::optional<int64_t> number;
  if (value->is_int64()) number = value->get_int64();
  // 16.0 is 16: some clients know one kind of number only.
  if (value->is_double() && std::trunc(value->get_double()) == value->get_double() &&
      std::abs(value->get_double()) < 9e15)
    number = static_cast<int64_t>(value->get_double());
  if (number && *number >= min && *number <= max) return number;
  if (max >= (int64_t{1} << 31) - 1) {
    Fail(name, fmt::format("must be an integer{}, not {}",
                           min == 0   ? ", 0 or more"
                           : min == 1 ? ", 1 or more"
                                      : "",
                           Shown(*value)));
  } else {
    Fail(name, fmt::format("must be an integer from {} to {}, not {}", min, max, Shown(*value)));
  }
  return std::nullopt;
}

std::optional<double> Fields::Number(std::string_view name, double min, double max) {
  const json::value* value = Find(name);
  if (!value) return std::nullopt;
  json::error_code ec;
  const double number = value->is_number() ? value->to_number<double>(ec) : 0;
  if (value->is_number() && !ec && number >= min && number <= max) return number;
  Fail(name, fmt::format("must be a number from {} to {}, not {}", min, max, Shown(*value)));
  return std::nullopt;
}

json::object* Fields::Object(std::string_view name) {
  json::value* value = Find(name);
  if (!value) return nullptr;
  if (!value->is_object()) Fail(name, "must be an object, not " + Shown(*value));
  return value->if_object();
}

json::array* Fields::Array(std::string_view name) {
  json::value* value = Find(name);
  if (!value) return nullptr;
  if (!value->is_array()) Fail(name, "must be an array, not " + Shown(*value));
  return value->if_array();
}

std::optional<std::vector<std::string>> Fields::Strings(std::string_view name, size_t max) {
  const json::value* value = Find(name);
  if (!value) return std::nullopt;
  std::vector<std::string> out;
  const json::array* array = value->if_array();
  if (value->is_string()) {
    out.emplace_back(value->get_string());
  } else if (!array) {
    Fail(name, "must be a string or an array of strings");
  } else if (array->size() > max) {
    Fail(name, fmt::format("must have at most {} entries", max));
  } else {
    for (const json::value& entry : *array) {
      if (!entry.is_string()) {
        Fail(name, "must be a string or an array of strings");
        break;
      }
      out.emplace_back(entry.get_string());
    }
  }
  return out;
}

void Fields::Fail(std::string_view name, std::string_view what) {
  Fail(Wrong(path_ + std::string(name), what));
}

void Fields::Fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

Result<json::object> ParseObject(std::string_view body) {
  json::error_code ec;
  json::parse_options options;
  options.max_depth = 64;
  json::value value = json::parse(
      body, ec, json::make_shared_resource<json::monotonic_resource>(2 * body.size() + 512), options);
  if (ec)
    return Err(InvalidArgument("The body is not valid JSON: " + ec.message() + ".", {}, "invalid_json"));
  if (!value.is_object()) return Err(InvalidArgument("The body must be a JSON object."));
  return std::move(value.get_object());
}

std::string_view TextOf(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
}

std::string ReadModel(Fields& fields) {
  std::string model = fields.String("model").value_or("");
  if (model.size() > 512) fields.Fail("model", "is too long");
  return model.empty() ? "default" : model;
}

uint64_t AffinityOf(std::string_view text) { return text.empty() ? 0 : Hash64(text); }

uint64_t ReadAffinity(const json::object& object) {
  for (const std::string_view name : {"prompt_cache_key", "safety_identifier", "user"})
    if (const uint64_t affinity = AffinityOf(TextOf(object, name))) return affinity;
  return 0;
}

Status Wrong(std::string_view param, std::string_view what) {
  return InvalidArgument(fmt::format("'{}' {}.", param, what), std::string(param));
}

}  // namespace cyllm::dialect
