#include <fmt/format.h>

#include "gateway/dialects/common/messages.h"
#include "gateway/dialects/openai/format.h"
#include "gateway/dialects/openai/openai.h"
#include "gateway/dialects/openai/sampling.h"

namespace cyllm::openai {

namespace json = boost::json;
using dialect::Fields;

namespace {

constexpr uint32_t kDefaultTokens = 16;  // OpenAI's default of /v1/completions

std::vector<Input> Wrong(Fields& fields) {
  fields.Fail("prompt",
              "must be a string, an array of strings, an array of token ids, or an array of such arrays");
  return {};
}

// string | [string] | [int] | [[int]]
std::vector<Input> ReadPrompts(Fields& fields) {
  const json::value* value = fields.Find("prompt");
  if (!value) {
    fields.Fail("prompt", "is required");
    return {};
  }
  std::vector<Input> prompts;
  if (value->is_string()) {
    prompts.push_back({std::string(value->get_string()), {}});
    return prompts;
  }
  const json::array* array = value->if_array();
  if (!array || array->empty()) return Wrong(fields);
  if (array->front().is_number()) {
    prompts.push_back({{}, ReadTokenIds(*array)});
    return prompts.front().tokens.empty() ? Wrong(fields) : prompts;
  }
  for (const json::value& entry : *array) {
    if (entry.is_string()) {
      prompts.push_back({std::string(entry.get_string()), {}});
      continue;
    }
    std::vector<int32_t> ids = entry.is_array() ? ReadTokenIds(entry.get_array()) : std::vector<int32_t>();
    if (ids.empty()) return Wrong(fields);
    prompts.push_back({{}, std::move(ids)});
  }
  return prompts;
}

Request RequestOf(Input prompt, RequestFacts facts, PayloadParts parts) {
  const bool tokens = !prompt.tokens.empty();
  facts.kind = tokens ? Kind::kTokens : Kind::kText;
  facts.needs |= tokens ? kCapTokens : kCapText;
  facts.prompt_tokens_estimate =
      tokens ? static_cast<uint32_t>(prompt.tokens.size()) : dialect::EstimateTokens(prompt.text.size());
  parts.prompt = std::move(prompt.text);
  parts.prompt_tokens = std::move(prompt.tokens);
  return {std::move(facts), Payload::Of(std::move(parts))};
}

}  // namespace

Result<dialect::Call> ParseCompletion(std::string_view body, const dialect::Limits& limits) {
  Result<json::object> object = dialect::ParseObject(body);
  if (!object) return Err(object.error());
  Fields fields(*object);
  dialect::Call call;
  Shape shape;
  shape.chat = false;
  RequestFacts facts;
  PayloadParts parts;
  ReadCommon(fields, limits, call, shape, facts, parts.sampling);
  facts.affinity = dialect::ReadAffinity(*object);
  facts.max_tokens = ReadMaxTokens(fields, "max_tokens").value_or(kDefaultTokens);
  parts.echo = shape.echo = fields.Bool("echo").value_or(false);
  if (auto suffix = fields.String("suffix"); suffix && !suffix->empty()) {
    parts.suffix = std::move(*suffix);
    facts.needs |= kCapInfill;
    if (parts.echo) fields.Fail("suffix", "cannot be used together with 'echo'");
  }
  if (const auto best_of = fields.Integer("best_of", 0, 20); best_of && *best_of > call.n)
    fields.Fail(InvalidArgument("'best_of' greater than 'n' is not supported.", "best_of", "unsupported"));
  if (const auto logprobs = fields.Integer("logprobs", 0, 20)) {
    shape.logprobs = true;
    parts.sampling.logprobs = true;
    parts.sampling.top_logprobs = static_cast<uint32_t>(*logprobs);
    facts.needs |= kCapLogprobs;
  }
  NeedFormat(*object, facts);
  std::vector<Input> prompts = ReadPrompts(fields);
  if (prompts.size() * call.n > limits.max_inputs)
    fields.Fail("prompt", fmt::format("asks for too many choices: prompts times n must be at most {}",
                                      limits.max_inputs));
  if (!parts.suffix.empty() && !prompts.empty() && !prompts.front().tokens.empty())
    fields.Fail("suffix", "needs a prompt of text");
  if (!fields.ok()) return Err(fields.status());
  parts.extra_json = fields.RestJson();
  shape.choices = call.n * static_cast<uint32_t>(prompts.size());
  for (size_t i = 0; i + 1 < prompts.size(); ++i)
    call.requests.push_back(RequestOf(std::move(prompts[i]), facts, parts));
  call.requests.push_back(RequestOf(std::move(prompts.back()), std::move(facts), std::move(parts)));
  SetWriter(call, std::move(shape));
  return call;
}

}  // namespace cyllm::openai
