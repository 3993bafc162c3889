#include "gateway/dialects/ollama/fields.h"

#include <fmt/chrono.h>

#include <limits>

#include "gateway/dialects/common/messages.h"

namespace cyllm::ollama {

namespace json = boost::json;
using dialect::Fields;

namespace {

constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxStops = 64;

}  // namespace

std::string ModelId(std::string name) {
  constexpr std::string_view kTag = ":latest";
  if (name.ends_with(kTag)) name.resize(name.size() - kTag.size());
  return name;
}

std::string Rfc3339(int64_t unix_seconds) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(unix_seconds)));
}

void ReadModel(Fields& fields, dialect::Call& call, RequestFacts& facts) {
  call.model = dialect::ReadModel(fields);
  facts.model = ModelId(call.model);
  if (facts.model.empty()) facts.model = call.model = "default";
}

void ReadOptions(Fields& fields, RequestFacts& facts, Sampling& sampling) {
  json::object* object = fields.Object("options");
  if (!object) return;
  Fields options(*object, "options.");
  // -1: without limit, -2: fill the context.
  if (const auto limit = options.Integer("num_predict", -2, kMaxTokens); limit && *limit >= 0)
    facts.max_tokens = static_cast<uint32_t>(*limit);
  facts.seed =
      options.Integer("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
  sampling.temperature = options.Number("temperature", 0, 2);
  sampling.top_p = options.Number("top_p", 0, 1);
  sampling.min_p = options.Number("min_p", 0, 1);
  if (const auto top_k = options.Integer("top_k", -1, kMaxTokens))
    sampling.top_k = static_cast<int32_t>(*top_k);
  sampling.repetition_penalty = options.Number("repeat_penalty", 0.01, 10);
  sampling.presence_penalty = options.Number("presence_penalty", -2, 2);
  sampling.frequency_penalty = options.Number("frequency_penalty", -2, 2);
  if (auto stops = options.Strings("stop", kMaxStops)) sampling.stop = std::move(*stops);
  std::erase(sampling.stop, std::string());
  if (!options.ok()) fields.Fail(options.status());
}

void ReadFormat(Fields& fields, RequestFacts& facts, PayloadParts& parts) {
  const json::value* format = fields.Find("format");
  if (!format || (format->is_string() && format->get_string().empty())) return;
  json::object mapped;
  if (format->is_string() && format->get_string() == "json") {
    mapped = {{"type", "json_object"}};
  } else if (format->is_object()) {
    mapped = {{"type", "json_schema"},
              {"json_schema", {{"name", "format"}, {"strict", true}, {"schema", *format}}}};
  } else {
    return fields.Fail("format", "must be 'json' or a JSON schema");
  }
  if (Status s = dialect::PutResponseFormat(mapped, facts, parts); !s.ok()) fields.Fail(std::move(s));
}

void ReadThink(Fields& fields, PayloadParts& parts) {
  const json::value* think = fields.Find("think");
  if (!think) return;
  json::object arguments;
  if (think->is_bool()) {
    arguments = {{"enable_thinking", think->get_bool()}};
  } else if (think->is_string()) {
    arguments = {{"enable_thinking", true}, {"reasoning_effort", think->get_string()}};
  } else {
    return fields.Fail("think", "must be true, false, or how much");
  }
  parts.template_kwargs_json = json::serialize(arguments);
}

}  // namespace cyllm::ollama
