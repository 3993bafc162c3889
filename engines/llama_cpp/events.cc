#include "llama_cpp/events.h"

#include <utility>

namespace cyllm::llama {

cyllm_event& Events::Add(uint64_t id, uint32_t type, uint32_t choice) {
  return list_.emplace_back(sdk::MakeEvent(id, type, choice));
}

void Events::Text(uint64_t id, uint32_t choice, Delta delta) {
  const Delta& kept = deltas_.emplace_back(std::move(delta));
  cyllm_event& event = Add(id, CYLLM_EVENT_TEXT, choice);
  event.text = sdk::Str(kept.text);
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

void Events::Clear() {
  list_.clear();
  deltas_.clear();
  logprobs_.clear();
  texts_.clear();
  errors_.clear();
}

}  // namespace cyllm::llama
