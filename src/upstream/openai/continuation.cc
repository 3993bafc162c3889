#include "upstream/openai/continuation.h"

#include <algorithm>
#include <boost/json.hpp>

#include "upstream/openai/error.h"
#include "upstream/openai/values.h"

namespace cyllm::upstream {

namespace json = boost::json;

namespace {

Status CannotResume(const char* why) {
  return MakeStatus(Code::kFailedPrecondition,
                    std::string("the model's server cannot go on with the answer: ") + why, "cannot_resume");
}

json::value Parse(std::string_view body) {
  json::error_code ec;
  json::value value = json::parse(body, ec);
  return ec ? json::value() : value;
}

// Fields that say who asks, not what comes next.
constexpr std::string_view kIdentities[] = {"user",         "metadata",          "store",
                                            "service_tier", "safety_identifier", "prompt_cache_key"};

bool OnlyIdentities(const std::string& extra_json) {
  if (extra_json.empty()) return true;
  const json::value extra = Parse(extra_json);
  return extra.is_object() && std::ranges::all_of(extra.get_object(), [](const auto& member) {
           return std::ranges::find(kIdentities, std::string_view(member.key())) != std::end(kIdentities);
         });
}

}  // namespace

bool CanContinue(const Profile& profile, const RequestFacts& facts, const PayloadParts& parts) {
  const Sampling& s = parts.sampling;
  if (!profile.continues || facts.choices != 1 || !facts.adapter.empty() || (facts.needs & kCapVision))
    return false;
  // Of prompts without a limit servers give as many tokens as they like.
  const bool kind = facts.kind == Kind::kChat ||
                    ((facts.kind == Kind::kText || facts.kind == Kind::kTokens) && facts.max_tokens);
  // A text that is held back, a grammar or a call in the middle, and penalties that count what was answered.
  return kind && s.stop.empty() && !s.logprobs && s.presence_penalty.value_or(0) == 0 &&
         s.frequency_penalty.value_or(0) == 0 && parts.tools_json.empty() &&
         parts.response_format_json.empty() && OnlyIdentities(parts.extra_json) && parts.suffix.empty() &&
         !parts.echo;
}

Status CheckContinuation(const Profile& profile, const RequestFacts& facts, const PayloadParts& parts,
                         const std::string& digest) {
  if (digest.empty() || facts.resume.digest != digest) return CannotResume("it has another model");
  if (!CanContinue(profile, facts, parts) || facts.resume.choices.size() != 1)
    return CannotResume("more than its tokens decides what comes next");
  const ChoiceResume& choice = facts.resume.choices.front();
  if (choice.token_ids.size() != choice.delivered.tokens) return CannotResume("its tokens are not known");
  if (choice.delivered.reasoning_bytes > 0 || choice.delivered.tool_argument_bytes > 0)
    return CannotResume("it is not mere text");
  return Status::Ok();
}

HttpCall TemplateCall(const Profile& profile, const PayloadParts& parts) {
  if (profile.tokenize != TokenizeForm::kLlamaServer || parts.messages_json.empty()) return {};
  std::string body = R"({"messages":)" + parts.messages_json;
  if (!parts.template_kwargs_json.empty()) body += R"(,"chat_template_kwargs":)" + parts.template_kwargs_json;
  return {"/apply-template", body + '}', false};
}

Result<HttpCall> PromptIdsCall(const Profile& profile, std::string_view model, const RequestFacts& facts,
                               const PayloadParts& parts, const std::string& text) {
  RequestFacts ask;
  ask.kind = Kind::kTokenize;
  PayloadParts of;
  if (facts.kind == Kind::kChat && text.empty()) {
    of.messages_json = parts.messages_json;
    of.template_kwargs_json = parts.template_kwargs_json;
  } else {
    of.prompt = facts.kind == Kind::kChat ? text : parts.prompt;
  }
  return ToHttp(profile, model, ask, of);
}

Result<HttpCall> DeliveredTextCall(const Profile& profile, std::string_view model,
                                   const RequestFacts& facts) {
  RequestFacts ask;
  ask.kind = Kind::kDetokenize;
  PayloadParts of;
  of.prompt_tokens = facts.resume.choices.front().token_ids;
  return ToHttp(profile, model, ask, of);
}

Result<std::string> ReadPromptText(std::string_view body) {
  const json::value value = Parse(body);
  const json::object* object = value.if_object();
  if (!object || (!object->contains("prompt") && !object->contains("content"))) return Err(Garbage());
  const std::string_view prompt = ReadText(*object, "prompt");
  return std::string(prompt.empty() ? ReadText(*object, "content") : prompt);
}

Result<std::vector<int32_t>> ReadPromptIds(std::string_view body) {
  const json::value value = Parse(body);
  auto ids = value.is_object() ? ReadIds(value.get_object(), "tokens") : std::nullopt;
  if (!ids || ids->empty()) return Err(Garbage());
  return std::move(*ids);
}

bool IsWhole(const RequestFacts& facts, std::string_view text) {
  // The character that stands for bytes that are none: part of one was not shown yet, or an id is missing.
  return text.size() == facts.resume.choices.front().delivered.text_bytes &&
         text.find("\xEF\xBF\xBD") == text.npos;
}

Result<HttpCall> ContinueCall(const Profile& profile, std::string_view model, const RequestFacts& facts,
                              const PayloadParts& parts, std::vector<int32_t> prompt_ids, uint32_t context) {
  const std::vector<int32_t>& delivered = facts.resume.choices.front().token_ids;
  prompt_ids.insert(prompt_ids.end(), delivered.begin(), delivered.end());
  const auto done = static_cast<uint32_t>(delivered.size());
  RequestFacts rest;
  rest.kind = Kind::kTokens;
  rest.priority = facts.priority;
  // Not the same draws again, which would favour the same tokens.
  if (facts.seed) rest.seed = static_cast<int64_t>((static_cast<uint64_t>(*facts.seed) + done) & INT64_MAX);
  if (facts.max_tokens) {
    rest.max_tokens = *facts.max_tokens - std::min(*facts.max_tokens, done);
  } else if (context > prompt_ids.size()) {
    rest.max_tokens = context - static_cast<uint32_t>(prompt_ids.size());
  } else {
    return Err(CannotResume("its end is not known"));
  }
  PayloadParts of;
  of.sampling = parts.sampling;
  of.sampling.min_tokens -= std::min(of.sampling.min_tokens, done);
  of.prompt_tokens = std::move(prompt_ids);
  return ToHttp(profile, model, rest, of);
}

}  // namespace cyllm::upstream
