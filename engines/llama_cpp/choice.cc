#include "llama_cpp/choice.h"

#include <algorithm>
#include <utility>

namespace cyllm::llama {

Choice::Choice(const Request& request, uint32_t index, const Vocabulary& vocabulary)
    : request_(request),
      index_(index),
      vocabulary_(vocabulary),
      sampler_(request.sampling, index, request.prompt),
      output_(vocabulary, request.output),
      tokens_(request.prompt) {
  if (request.constraint) constraint_.emplace(*request.constraint, *request.index, vocabulary);
}

bool Choice::Resume(const ResumeState& state) {
  for (const Token token : state.tokens) {
    if (finished() || vocabulary_.IsEnd(token)) return false;
    if (constraint_ && !constraint_->Allows(token)) return false;
    Take({token, 0, {}});
  }
  return output_.Skip(state.delivered);
}

std::span<const Token> Choice::Banned() {
  const bool early = generated_ < request_.min_tokens;
  banned_.clear();
  if (early || request_.ignore_eos) banned_ = vocabulary_.end_tokens();
  if (early) banned_.insert(banned_.end(), request_.stop_tokens.begin(), request_.stop_tokens.end());
  return banned_;
}

void Choice::Next(std::span<float> logits, TimePoint now) {
  const Sample sample = Choose(logits);
  if (!first_) first_ = now;
  last_ = now;
  Take(sample);
}

void Choice::NextOfHeld(TimePoint now) {
  std::vector<float> logits = std::exchange(held_, {});
  Next(logits, now);
}

// The constraint looks at what was chosen first; only when it refuses that, all tokens are looked at, and one
// of those that it allows is drawn independently: all in all, each comes with its share of them.
Sample Choice::Choose(std::span<float> logits) {
  if (!constraint_) return sampler_.Choose(logits, generated_, Banned());
  logits_.assign(logits.begin(), logits.end());
  Sample sample = sampler_.Choose(logits, generated_, Banned());
  if (constraint_->Allows(sample.token)) return sample;
  constraint_->Mask(logits_);
  return sampler_.ChooseAgain(logits_, generated_, Banned(), std::move(sample));
}

void Choice::Take(const Sample& sample) {
  if (constraint_ && !constraint_->Allows(sample.token)) {  // nothing can follow what was said: cut
    Finish(CYLLM_FINISH_LENGTH);
    return;
  }
  const bool early = generated_ < request_.min_tokens;
  ++generated_;
  const auto& stops = request_.stop_tokens;
  if (vocabulary_.IsEnd(sample.token) || std::find(stops.begin(), stops.end(), sample.token) != stops.end()) {
    Finish(CYLLM_FINISH_STOP);
    return;
  }
  sampler_.Count(sample.token);
  if (constraint_) constraint_->Accept(sample.token);
  tokens_.push_back(sample.token);
  output_.Push(sample, !early);
  if (output_.stop_match() || (constraint_ && constraint_->complete())) {
    Finish(CYLLM_FINISH_STOP);
  } else if (generated_ >= request_.max_tokens) {
    Finish(CYLLM_FINISH_LENGTH);
  }
}

std::string Choice::CallId(uint32_t call) const {
  uint64_t hash = request_.sampling.has_seed ? request_.sampling.seed : 0;
  const auto mix = [&](uint64_t v) { hash = (hash ^ v) * 0x9E3779B97F4A7C15u, hash ^= hash >> 32; };
  for (const Token token : request_.prompt) mix(static_cast<uint32_t>(token));
  mix(uint64_t{index_} << 32 | call);
  std::string out = "call_";
  for (int i = 0; i < 4; ++i) {
    mix(static_cast<uint64_t>(i));
    for (uint64_t left = hash, n = 0; n < 6; ++n, left /= 36)
      out += "0123456789abcdefghijklmnopqrstuvwxyz"[left % 36];
  }
  return out;
}

void Choice::Finish(uint32_t reason) {
  reason_ = reason;
  output_.Finish();
  if (output_.stop_match()) reason_ = CYLLM_FINISH_STOP;
  if (*reason_ == CYLLM_FINISH_STOP && output_.called()) reason_ = CYLLM_FINISH_TOOL_CALLS;
}

}  // namespace cyllm::llama
