#include "llama_cpp/events.h"

#include <utility>

namespace cyllm::llama {

cyllm_event& Events::Add(uint64_t id, uint32_t type, uint32_t choice) {
  return list_.emplace_back(sdk::MakeEvent(id, type, choice));
}

void Events::Piece(uint64_t id, uint32_t choice, Delta delta, std::string call_id) {
  const Delta& kept = deltas_.emplace_back(std::move(delta));
  const MessagePart& part = kept.part;
  cyllm_event& event = Add(id,
                           part.kind == MessagePart::Kind::kText        ? CYLLM_EVENT_TEXT
                           : part.kind == MessagePart::Kind::kReasoning ? CYLLM_EVENT_REASONING
                                                                        : CYLLM_EVENT_TOOL_CALL,
                           choice);
  event.text = sdk::Str(part.text);
  event.tool_index = part.call;
  if (part.opens) {
    event.tool_id = Keep(std::move(call_id));
    event.tool_name = sdk::Str(part.name);
  }
  event.token_ids = kept.tokens.data();
  event.n_token_ids = kept.tokens.size();
  event.end = kept.end;
  if (kept.scores.empty()) return;
  std::vector<cyllm_logprob> scores;
  for (const TokenScore& score : kept.scores) {
    std::vector<cyllm_logprob>& top = logprobs_.emplace_back();
    for (size_t i = 0; i < score.sample.top.size(); ++i)
      top.push_back(
          {score.sample.top[i].token, score.sample.top[i].logprob, sdk::Str(score.top_bytes[i]), nullptr, 0});
    scores.push_back(
        {score.sample.token, score.sample.logprob, sdk::Str(score.bytes), top.data(), top.size()});
  }
  event.logprobs = logprobs_.emplace_back(std::move(scores)).data();
  event.n_logprobs = kept.scores.size();
}

void Events::End(uint64_t id, const cyllm_error* error) {
  cyllm_event& event = Add(id, CYLLM_EVENT_END);
  if (error) event.error = &errors_.emplace_back(*error);
}

cyllm_str Events::Keep(std::string text) { return sdk::Str(texts_.emplace_back(std::move(text))); }

const std::vector<float>& Events::Keep(std::vector<float> values) {
  return values_.emplace_back(std::move(values));
}

void Events::Clear() {
  list_.clear();
  deltas_.clear();
  logprobs_.clear();
  texts_.clear();
  values_.clear();
  errors_.clear();
}

}  // namespace cyllm::llama
