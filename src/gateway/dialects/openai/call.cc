#include "gateway/dialects/openai/call.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

#include "gateway/dialects/openai/fields.h"
#include "gateway/dialects/openai/messages.h"

namespace cyllm::openai {

namespace json = boost::json;

namespace {

constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxStops = 16;
constexpr uint32_t kCompletionTokens = 16;  // OpenAI's default of /v1/completions

void ReadStops(Fields& fields, Sampling& sampling) {
  const json::value* stop = fields.Find("stop");
  if (!stop) return;
  if (stop->is_string()) {
    sampling.stop = {std::string(stop->get_string())};
  } else if (const json::array* stops = stop->if_array()) {
    if (stops->size() > kMaxStops)
      return fields.Fail("stop", fmt::format("must have at most {} entries", kMaxStops));
    for (const json::value& s : *stops) {
      if (!s.is_string()) return fields.Fail("stop", "must be a string or an array of strings");
      sampling.stop.emplace_back(s.get_string());
    }
  } else {
    return fields.Fail("stop", "must be a string or an array of strings");
  }
  std::erase(sampling.stop, std::string());
}

void ReadLogitBias(Fields& fields, Sampling& sampling) {
  const json::object* biases = fields.Object("logit_bias");
  if (!biases) return;
  for (const auto& [key, value] : *biases) {
    json::error_code ec;
    const double bias =
        value.is_number() ? value.to_number<double>(ec) : std::numeric_limits<double>::quiet_NaN();
    if (bias == 0) continue;
    int32_t token = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), token);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || token < 0 ||
        !(bias >= -100 && bias <= 100))
      return fields.Fail("logit_bias", "must map token ids to numbers from -100 to 100");
    sampling.logit_bias.emplace_back(token, static_cast<float>(bias));
  }
}

void ReadStopTokens(Fields& fields, Sampling& sampling) {
  const json::array* ids = fields.Array("stop_token_ids");
  if (!ids) return;
  for (const json::value& id : *ids) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() > kMaxTokens)
      return fields.Fail("stop_token_ids", "must be an array of token ids");
    sampling.stop_token_ids.push_back(static_cast<int32_t>(id.get_int64()));
  }
}

// What both endpoints share.
void ReadCommon(Fields& fields, const Limits& limits, Call& call, RequestFacts& facts, Sampling& sampling) {
  call.model = fields.String("model").value_or("");
  if (call.model.empty()) call.model = "default";
  if (call.model.size() > 512) fields.Fail("model", "is too long");
  facts.model = call.model;
  call.stream = fields.Bool("stream").value_or(false);
  if (const json::object* options = fields.Object("stream_options"); options && call.stream) {
    Fields stream_options(*options, "stream_options.");
    call.include_usage = stream_options.Bool("include_usage").value_or(false);
    call.continuous_usage = stream_options.Bool("continuous_usage_stats").value_or(false);
    if (!stream_options.ok()) fields.Fail(stream_options.status());
  }
  call.n = static_cast<uint32_t>(fields.Integer("n", 1, limits.max_choices).value_or(1));
  facts.choices = call.n;
  facts.seed =
      fields.Integer("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
  facts.priority = static_cast<int32_t>(fields.Integer("priority", -1000, 1000).value_or(0));
  sampling.temperature = fields.Number("temperature", 0, 2);
  sampling.top_p = fields.Number("top_p", 0, 1);
  sampling.min_p = fields.Number("min_p", 0, 1);
  if (const auto top_k = fields.Integer("top_k", -1, kMaxTokens))
    sampling.top_k = static_cast<int32_t>(*top_k);
  sampling.repetition_penalty = fields.Number("repetition_penalty", 0.01, 10);
  sampling.presence_penalty = fields.Number("presence_penalty", -2, 2);
  sampling.frequency_penalty = fields.Number("frequency_penalty", -2, 2);
  sampling.ignore_eos = fields.Bool("ignore_eos").value_or(false);
  sampling.min_tokens = static_cast<uint32_t>(fields.Integer("min_tokens", 0, kMaxTokens).value_or(0));
  ReadStops(fields, sampling);
  ReadLogitBias(fields, sampling);
  ReadStopTokens(fields, sampling);
}

std::optional<uint32_t> ReadMaxTokens(Fields& fields, const char* name) {
  const json::value* value = fields.Find(name);
  if (value && value->is_int64() && value->get_int64() == -1) {
    fields.Fail(name, "must be 0 or more; leave it out for no limit");
    return std::nullopt;
  }
  const auto number = fields.Integer(name, 0, kMaxTokens);
  return number ? std::optional(static_cast<uint32_t>(*number)) : std::nullopt;
}

void ReadTools(Fields& fields, RequestFacts& facts, PayloadParts& parts) {
  const json::array* tools = fields.Array("tools");
  const json::value* choice = fields.Find("tool_choice");
  if (tools) {
    if (Status status = CheckTools(*tools); !status.ok()) return fields.Fail(std::move(status));
  }
  if (choice) {
    if (Status status = CheckToolChoice(*choice, tools); !status.ok()) return fields.Fail(std::move(status));
  }
  parts.parallel_tool_calls = fields.Bool("parallel_tool_calls").value_or(true);
  const bool none = choice && choice->is_string() && choice->get_string() == "none";
  if (!tools || tools->empty() || none) return;
  parts.tools_json = json::serialize(*tools);
  if (choice) parts.tool_choice_json = json::serialize(*choice);
  facts.needs |= kCapTools;
}

void ReadFormat(Fields& fields, RequestFacts& facts, PayloadParts& parts) {
  const json::object* format = fields.Object("response_format");
  if (!format) return;
  if (Status status = CheckResponseFormat(*format); !status.ok()) return fields.Fail(std::move(status));
  if (format->at("type").as_string() == "text") return;
  parts.response_format_json = json::serialize(*format);
  facts.needs |= kCapJsonSchema;
}

uint32_t Estimate(size_t bytes) { return static_cast<uint32_t>(std::min<size_t>(bytes / 4 + 1, 1u << 30)); }

struct Prompt {
  std::string text;
  std::vector<int32_t> tokens;
  bool is_tokens = false;
};

bool ReadTokens(const json::array& in, Prompt& out) {
  out.is_tokens = true;
  for (const json::value& id : in) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() > kMaxTokens) return false;
    out.tokens.push_back(static_cast<int32_t>(id.get_int64()));
  }
  return !out.tokens.empty();
}

// string | [string] | [int] | [[int]]
std::vector<Prompt> ReadPrompts(Fields& fields) {
  const json::value* value = fields.Find("prompt");
  std::vector<Prompt> prompts;
  const auto wrong = [&] {
    fields.Fail("prompt",
                "must be a string, an array of strings, an array of token ids, or an array of such arrays");
    return std::vector<Prompt>();
  };
  if (!value) {
    fields.Fail("prompt", "is required");
    return {};
  }
  if (value->is_string()) {
    prompts.push_back({std::string(value->get_string()), {}, false});
    return prompts;
  }
  const json::array* array = value->if_array();
  if (!array || array->empty()) return wrong();
  if (array->front().is_number()) {
    Prompt prompt;
    if (!ReadTokens(*array, prompt)) return wrong();
    prompts.push_back(std::move(prompt));
    return prompts;
  }
  for (const json::value& entry : *array) {
    Prompt prompt;
    if (entry.is_string()) {
      prompt.text = std::string(entry.get_string());
    } else if (!entry.is_array() || !ReadTokens(entry.get_array(), prompt)) {
      return wrong();
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

}  // namespace

Result<Call> ParseChat(std::string_view body, const Limits& limits) {
  const Result<json::object> object = ParseObject(body);
  if (!object) return Err(object.error());
  Fields fields(*object);
  Call call;
  RequestFacts facts;
  PayloadParts parts;
  facts.kind = Kind::kChat;
  facts.needs = kCapChat;
  ReadCommon(fields, limits, call, facts, parts.sampling);
  facts.max_tokens = ReadMaxTokens(fields, "max_completion_tokens");
  const std::optional<uint32_t> old_name = ReadMaxTokens(fields, "max_tokens");
  if (!facts.max_tokens) facts.max_tokens = old_name;

  if (const json::array* messages = fields.Array("messages")) {
    Result<json::array> checked = CheckMessages(*messages);
    if (checked) {
      parts.messages_json = json::serialize(*checked);
    } else {
      fields.Fail(checked.error());
    }
  } else {
    fields.Fail("messages", "is required");
  }
  const bool logprobs = fields.Bool("logprobs").value_or(false);
  const auto top = fields.Integer("top_logprobs", 0, 20);
  if (top && !logprobs) fields.Fail("top_logprobs", "needs 'logprobs' to be true");
  if (logprobs) {
    call.logprobs = static_cast<uint32_t>(top.value_or(0));
    parts.sampling.logprobs = true;
    parts.sampling.top_logprobs = *call.logprobs;
    facts.needs |= kCapLogprobs;
  }
  ReadTools(fields, facts, parts);
  ReadFormat(fields, facts, parts);
  if (const json::object* kwargs = fields.Object("chat_template_kwargs"))
    parts.template_kwargs_json = json::serialize(*kwargs);
  if (const json::array* modalities = fields.Array("modalities")) {
    for (const json::value& m : *modalities) {
      if (!m.is_string() || m.get_string() != "text") fields.Fail("modalities", "must be [\"text\"]");
    }
  }
  if (!fields.ok()) return Err(fields.status());
  facts.prompt_tokens_estimate = Estimate(parts.messages_json.size());
  call.requests.push_back({std::move(facts), Payload::Of(std::move(parts))});
  return call;
}

Result<Call> ParseCompletion(std::string_view body, const Limits& limits) {
  const Result<json::object> object = ParseObject(body);
  if (!object) return Err(object.error());
  Fields fields(*object);
  Call call;
  call.kind = Call::Kind::kCompletion;
  RequestFacts facts;
  PayloadParts parts;
  ReadCommon(fields, limits, call, facts, parts.sampling);
  facts.max_tokens = ReadMaxTokens(fields, "max_tokens").value_or(kCompletionTokens);
  parts.echo = fields.Bool("echo").value_or(false);
  if (const auto suffix = fields.String("suffix"); suffix && !suffix->empty())
    fields.Fail(InvalidArgument("'suffix' is not supported.", "suffix", "unsupported"));
  if (const auto best_of = fields.Integer("best_of", 0, 20); best_of && *best_of > call.n)
    fields.Fail(InvalidArgument("'best_of' greater than 'n' is not supported.", "best_of", "unsupported"));
  if (const auto logprobs = fields.Integer("logprobs", 0, 20)) {
    call.logprobs = static_cast<uint32_t>(*logprobs);
    parts.sampling.logprobs = true;
    parts.sampling.top_logprobs = *call.logprobs;
    facts.needs |= kCapLogprobs;
  }
  std::vector<Prompt> prompts = ReadPrompts(fields);
  if (prompts.size() * call.n > limits.max_choices)
    fields.Fail("prompt", fmt::format("asks for too many choices: prompts times n must be at most {}",
                                      limits.max_choices));
  if (!fields.ok()) return Err(fields.status());
  for (Prompt& prompt : prompts) {
    RequestFacts own = facts;
    PayloadParts own_parts = parts;
    own.kind = prompt.is_tokens ? Kind::kTokens : Kind::kText;
    own.needs |= prompt.is_tokens ? kCapTokens : kCapText;
    own.prompt_tokens_estimate =
        prompt.is_tokens ? static_cast<uint32_t>(prompt.tokens.size()) : Estimate(prompt.text.size());
    own_parts.prompt = std::move(prompt.text);
    own_parts.prompt_tokens = std::move(prompt.tokens);
    call.requests.push_back({std::move(own), Payload::Of(std::move(own_parts))});
  }
  return call;
}

}  // namespace cyllm::openai
