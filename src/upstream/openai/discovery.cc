#include "upstream/openai/discovery.h"

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <cmath>
#include <limits>

#include "upstream/openai/error.h"
#include "upstream/openai/values.h"

namespace cyllm::upstream {

namespace json = boost::json;

namespace {

constexpr size_t kMaxModels = 10'000;
constexpr size_t kMaxId = 512;

uint32_t Length(std::optional<int64_t> value) {
  return static_cast<uint32_t>(
      std::clamp<int64_t>(value.value_or(0), 0, std::numeric_limits<uint32_t>::max()));
}

// The value of a line `name{labels} value [timestamp]`, if it is of that name.
std::optional<double> Sample(std::string_view line, std::string_view name) {
  if (name.empty() || !line.starts_with(name)) return std::nullopt;
  line.remove_prefix(name.size());
  if (line.starts_with('{')) {
    bool quoted = false;
    size_t i = 1;
    for (; i < line.size() && (quoted || line[i] != '}'); ++i) {
      if (line[i] == '\\') {
        ++i;
      } else if (line[i] == '"') {
        quoted = !quoted;
      }
    }
    if (i >= line.size()) return std::nullopt;
    line.remove_prefix(i + 1);
  }
  if (!line.starts_with(' ')) return std::nullopt;
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  double value = 0;
  const auto [end, ec] = std::from_chars(line.data(), line.data() + line.size(), value);
  return ec == std::errc() && std::isfinite(value) && value >= 0 ? std::optional(value) : std::nullopt;
}

}  // namespace

Result<std::vector<ServedModel>> ReadModels(std::string_view body) {
  json::error_code ec;
  const json::value value = json::parse(body, ec);
  const json::object* object = ec ? nullptr : value.if_object();
  const json::value* data = object ? object->if_contains("data") : nullptr;
  if (!data || !data->is_array()) return Err(Garbage());
  std::vector<ServedModel> models;
  for (const json::value& entry : data->get_array()) {
    if (!entry.is_object() || models.size() >= kMaxModels) continue;
    const json::object& in = entry.get_object();
    ServedModel model;
    model.id = std::string(ReadText(in, "id"));
    if (model.id.empty() || model.id.size() > kMaxId) continue;
    model.owned_by = std::string(ReadText(in, "owned_by"));
    model.parent = std::string(ReadText(in, "parent"));
    model.max_model_len = Length(ReadInteger(in, "max_model_len"));
    model.created = ReadInteger(in, "created").value_or(0);
    // vLLM and SGLang name where the weights come from; llama-server tells what they are like.
    model.identity = std::string(ReadText(in, "root"));
    const json::value* meta = in.if_contains("meta");
    if (meta && meta->is_object()) {
      for (const char* key : {"n_params", "size", "n_vocab", "n_embd", "n_ctx_train", "ftype"}) {
        if (const json::value* value = meta->get_object().if_contains(key))
          model.identity += std::string(key) + "=" + json::serialize(*value) + " ";
      }
    }
    if (model.max_model_len == 0 && meta && meta->is_object()) {
      model.max_model_len = Length(ReadInteger(meta->get_object(), "n_ctx"));
      if (model.max_model_len == 0)
        model.max_model_len = Length(ReadInteger(meta->get_object(), "n_ctx_train"));
    }
    models.push_back(std::move(model));
  }
  return models;
}

ImportedLoad ReadLoad(const Profile& profile, std::string_view text) {
  ImportedLoad load;
  const auto add = [](std::optional<double>& to, double value) { to = to.value_or(0) + value; };
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (const auto value = Sample(line, profile.running)) add(load.running, *value);
    if (const auto value = Sample(line, profile.waiting)) add(load.waiting, *value);
    if (const auto value = Sample(line, profile.kv_usage))
      load.kv_usage = std::max(load.kv_usage.value_or(0), std::min(*value, 1.0));
  }
  return load;
}

}  // namespace cyllm::upstream
