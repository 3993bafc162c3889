#include "llama_cpp/choice.h"

#include <algorithm>

namespace cyllm::llama {

Choice::Choice(const Request& request, uint32_t index, const Vocabulary& vocabulary)
    : request_(request),
      index_(index),
      vocabulary_(vocabulary),
      sampler_(request.sampling, index, request.prompt),
      output_(vocabulary, request.stop, request.sampling.logprobs, request.echoed),
      tokens_(request.prompt) {}

std::span<const Token> Choice::Banned() {
  const bool early = generated_ < request_.min_tokens;
  banned_.clear();
  if (early || request_.ignore_eos) banned_ = vocabulary_.end_tokens();
  if (early) banned_.insert(banned_.end(), request_.stop_tokens.begin(), request_.stop_tokens.end());
  return banned_;
}

void Choice::Next(std::span<float> logits, TimePoint now) {
  const Sample sample = sampler_.Choose(logits, generated_, Banned());
  const bool early = generated_ < request_.min_tokens;
  ++generated_;
  if (!first_) first_ = now;
  last_ = now;
  const auto& stops = request_.stop_tokens;
  if (vocabulary_.IsEnd(sample.token) || std::find(stops.begin(), stops.end(), sample.token) != stops.end()) {
    Finish(CYLLM_FINISH_STOP);
    return;
  }
  tokens_.push_back(sample.token);
  output_.Push(sample, !early);
  if (output_.stop_match()) {
    Finish(CYLLM_FINISH_STOP);
  } else if (generated_ >= request_.max_tokens) {
    Finish(CYLLM_FINISH_LENGTH);
  }
}

void Choice::Finish(uint32_t reason) {
  reason_ = reason;
  output_.Finish();
  if (output_.stop_match()) reason_ = CYLLM_FINISH_STOP;
}

}  // namespace cyllm::llama
