#include "worker/engine_host/convert.h"

#include <limits>

#include "sdk/engine.hpp"

namespace cyllm {

namespace {

double OrNan(const std::optional<double>& v) { return v.value_or(std::numeric_limits<double>::quiet_NaN()); }

std::string Text(cyllm_str s) { return std::string(sdk::View(s)); }

std::vector<int32_t> Tokens(const cyllm_event& e) {
  return e.n_token_ids ? std::vector<int32_t>(e.token_ids, e.token_ids + e.n_token_ids)
                       : std::vector<int32_t>();
}

Offsets End(const cyllm_event& e) {
  return {e.end.tokens, e.end.text_bytes, e.end.reasoning_bytes, e.end.tool_argument_bytes};
}

TokenLogprob Logprob(const cyllm_logprob& in) {
  TokenLogprob out{in.token, Text(in.bytes), in.logprob, {}};
  for (size_t i = 0; i < in.n_top; ++i)
    out.top.push_back({in.top[i].token, Text(in.top[i].bytes), in.top[i].logprob, {}});
  return out;
}

}  // namespace

EngineRequest::EngineRequest(uint64_t id, uint32_t credit, const RequestFacts& facts,
                             const PayloadParts& parts) {
  const Sampling& s = parts.sampling;
  for (const auto& [token, bias] : s.logit_bias) bias_.push_back({token, bias});
  for (const std::string& stop : s.stop) stops_.push_back(sdk::Str(stop));
  for (const ChoiceResume& c : facts.resume.choices) {
    resume_.push_back({c.token_ids.data(), c.token_ids.size(), c.delivered.text_bytes,
                       c.delivered.reasoning_bytes, c.delivered.tool_argument_bytes});
  }
  for (const Input& input : parts.inputs)
    inputs_.push_back({sizeof(cyllm_input), sdk::Str(input.text), input.tokens.data(), input.tokens.size()});
  sampling_.size = sizeof sampling_;
  sampling_.temperature = OrNan(s.temperature);
  sampling_.top_p = OrNan(s.top_p);
  sampling_.min_p = OrNan(s.min_p);
  sampling_.repetition_penalty = OrNan(s.repetition_penalty);
  sampling_.presence_penalty = OrNan(s.presence_penalty);
  sampling_.frequency_penalty = OrNan(s.frequency_penalty);
  sampling_.top_k = s.top_k.value_or(std::numeric_limits<int32_t>::min());
  sampling_.min_tokens = s.min_tokens;
  sampling_.ignore_eos = s.ignore_eos;
  sampling_.logprobs = s.logprobs;
  sampling_.top_logprobs = s.top_logprobs;
  sampling_.logit_bias = bias_.data();
  sampling_.n_logit_bias = bias_.size();
  sampling_.stop = stops_.data();
  sampling_.n_stop = stops_.size();
  sampling_.stop_token_ids = s.stop_token_ids.data();
  sampling_.n_stop_token_ids = s.stop_token_ids.size();

  request_.size = sizeof request_;
  request_.id = id;
  request_.kind = static_cast<uint32_t>(facts.kind);
  request_.priority = facts.priority;
  request_.model = sdk::Str(facts.model);
  request_.adapter = sdk::Str(facts.adapter);
  request_.messages_json = sdk::Str(parts.messages_json);
  request_.tools_json = sdk::Str(parts.tools_json);
  request_.tool_choice_json = sdk::Str(parts.tool_choice_json);
  request_.response_format_json = sdk::Str(parts.response_format_json);
  request_.template_kwargs_json = sdk::Str(parts.template_kwargs_json);
  request_.prompt = sdk::Str(parts.prompt);
  request_.prompt_tokens = parts.prompt_tokens.data();
  request_.n_prompt_tokens = parts.prompt_tokens.size();
  request_.max_tokens = facts.max_tokens.value_or(CYLLM_MAX_TOKENS_UNSET);
  request_.n = facts.choices;
  request_.has_seed = facts.seed.has_value();
  request_.seed = facts.seed.value_or(0);
  request_.echo = parts.echo;
  request_.credit = credit;
  request_.parallel_tool_calls = parts.parallel_tool_calls;
  request_.sampling = &sampling_;
  request_.suffix = sdk::Str(parts.suffix);
  request_.inputs = inputs_.data();
  request_.n_inputs = inputs_.size();
  request_.dimensions = parts.dimensions;
  request_.no_special_tokens = parts.no_special_tokens;
  request_.prefix_hashes = facts.prefix_hashes.data();
  request_.n_prefix_hashes = facts.prefix_hashes.size();
  request_.extra_json = sdk::Str(parts.extra_json);
  request_.resume = resume_.empty() ? nullptr : resume_.data();
}

bool FromEngine(const cyllm_event& in, Event* out) {
  const cyllm_event e = sdk::Read(&in);
  switch (e.type) {
    case CYLLM_EVENT_ACCEPTED:
      *out = Accepted{e.prompt_tokens, e.cached_tokens, {}};
      return true;
    case CYLLM_EVENT_TEXT: {
      TextDelta delta{e.choice, Text(e.text), Tokens(e), {}, End(e)};
      for (size_t i = 0; i < e.n_logprobs; ++i) delta.logprobs.push_back(Logprob(e.logprobs[i]));
      *out = std::move(delta);
      return true;
    }
    case CYLLM_EVENT_REASONING:
      *out = ReasoningDelta{e.choice, Text(e.text), Tokens(e), End(e)};
      return true;
    case CYLLM_EVENT_TOOL_CALL:
      *out = ToolCallDelta{e.choice,     e.tool_index, Text(e.tool_id), Text(e.tool_name),
                           Text(e.text), Tokens(e),    End(e)};
      return true;
    case CYLLM_EVENT_FINISHED: {
      Finished finished;
      finished.choice = e.choice;
      finished.reason = e.finish_reason <= CYLLM_FINISH_CONTENT_FILTER
                            ? static_cast<FinishReason>(e.finish_reason)
                            : FinishReason::kStop;
      finished.stop_match = Text(e.stop_match);
      finished.usage = {e.prompt_tokens, e.cached_tokens, e.completion_tokens, e.reasoning_tokens};
      finished.timings = {e.queue_ms, e.ttft_ms, e.decode_ms};
      *out = std::move(finished);
      return true;
    }
    case CYLLM_EVENT_VALUES:
      *out = Values{e.choice,
                    e.n_values ? std::vector<float>(e.values, e.values + e.n_values) : std::vector<float>()};
      return true;
    default:
      return false;
  }
}

Status FromEngine(const cyllm_error& in) {
  cyllm_error e = sdk::Read(&in);
  e.message[sizeof e.message - 1] = e.reason[sizeof e.reason - 1] = e.param[sizeof e.param - 1] = 0;
  Status status;
  status.code = e.code > 0 && e.code <= 16 ? static_cast<Code>(e.code) : Code::kInternal;
  status.message = e.message;
  status.reason = e.reason;
  status.param = e.param;
  status.retry_after = Millis(e.retry_after_ms);
  status.retryable = e.retryable != 0;
  return status;
}

}  // namespace cyllm
