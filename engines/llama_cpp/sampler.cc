#include "llama_cpp/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace cyllm::llama {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

uint64_t Mix(uint64_t x) {  // splitmix64's finalizer
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// Independent lanes, so that the compiler can use vector maxima.
float MaxOf(std::span<const float> values) {
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> best;
  best.fill(kNever);
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) best[l] = values[i + l] > best[l] ? values[i + l] : best[l];
  float max = kNever;
  for (const float b : best) max = std::max(max, b);
  for (; i < values.size(); ++i) max = values[i] > max ? values[i] : max;
  return max;
}

bool Higher(const ScoredToken& a, const ScoredToken& b) {
  return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
}

// The `k` highest, best first.
void TopK(std::span<const float> logits, size_t k, std::vector<ScoredToken>* out) {
  out->clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (out->size() == k && logits[i] <= out->front().logprob) continue;
    if (out->size() == k) {
      std::pop_heap(out->begin(), out->end(), Higher);
      out->pop_back();
    }
    out->push_back({static_cast<Token>(i), logits[i]});
    std::push_heap(out->begin(), out->end(), Higher);
  }
  std::sort_heap(out->begin(), out->end(), Higher);
}

// log of the sum of exponentials.
double LogSum(std::span<const float> logits) {
  const float max = MaxOf(logits);
  double sum = 0;
  for (const float l : logits) sum += std::exp(l - max);
  return max + std::log(sum);
}

}  // namespace

Token ArgMax(std::span<const float> logits) {
  const auto at = std::find(logits.begin(), logits.end(), MaxOf(logits));
  return at == logits.end() ? 0 : static_cast<Token>(at - logits.begin());
}

double UniformAt(uint64_t seed, uint32_t choice, uint32_t position) {
  const uint64_t bits = Mix(Mix(Mix(seed) ^ choice) ^ (uint64_t{position} << 32));
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

Sampler::Sampler(const SamplingParams& params, uint32_t choice, std::span<const Token> prompt)
    : params_(params),
      choice_(choice),
      penalties_(params.repetition_penalty != 1 || params.presence_penalty != 0 ||
                 params.frequency_penalty != 0) {
  if (params_.repetition_penalty != 1)
    for (const Token token : prompt) seen_[token].prompt = true;
}

Sample Sampler::Choose(std::span<float> logits, uint32_t position, std::span<const Token> banned) {
  Sample out;
  double total = 0;
  if (params_.logprobs) {
    total = LogSum(logits);
    if (params_.top_logprobs > 0) {
      TopK(logits, std::min<size_t>(params_.top_logprobs, logits.size()), &out.top);
      for (ScoredToken& t : out.top) t.logprob = static_cast<float>(t.logprob - total);
    }
  }
  std::vector<float> own;
  if (params_.logprobs) own.assign(logits.begin(), logits.end());
  Adjust(logits, banned);
  out.token =
      params_.temperature <= 0 ? ArgMax(logits) : Draw(logits, UniformAt(params_.seed, choice_, position));
  if (params_.logprobs) out.logprob = static_cast<float>(own[static_cast<size_t>(out.token)] - total);
  if (penalties_) ++seen_[out.token].output;
  return out;
}

void Sampler::Adjust(std::span<float> logits, std::span<const Token> banned) const {
  const auto known = [&](Token t) { return t >= 0 && static_cast<size_t>(t) < logits.size(); };
  for (const auto& [token, bias] : params_.logit_bias)
    if (known(token)) logits[static_cast<size_t>(token)] += bias;
  for (const auto& [token, seen] : seen_) {
    if (!known(token)) continue;
    float& logit = logits[static_cast<size_t>(token)];
    const auto penalty = static_cast<float>(params_.repetition_penalty);
    logit = logit > 0 ? logit / penalty : logit * penalty;
    if (seen.output > 0)
      logit -= static_cast<float>(params_.presence_penalty + params_.frequency_penalty * seen.output);
  }
  for (const Token token : banned)
    if (known(token)) logits[static_cast<size_t>(token)] = kNever;
}

Token Sampler::Draw(std::span<const float> logits, double uniform) {
  const auto scale = static_cast<float>(1 / params_.temperature);
  const float max = MaxOf(logits);
  const bool top_p = params_.top_p < 1;
  if (params_.top_k > 0) {
    TopK(logits, std::min<size_t>(static_cast<size_t>(params_.top_k), logits.size()), &candidates_);
  } else {
    // What min_p would drop needs no sorting.
    const float floor =
        params_.min_p > 0 ? max + static_cast<float>(std::log(params_.min_p)) / scale : kNever;
    candidates_.clear();
    for (size_t i = 0; i < logits.size(); ++i)
      if (logits[i] > kNever && logits[i] >= floor) candidates_.push_back({static_cast<Token>(i), logits[i]});
    if (top_p) std::sort(candidates_.begin(), candidates_.end(), Higher);
  }
  double sum = 0;
  for (ScoredToken& c : candidates_) {
    c.logprob = std::exp((c.logprob - max) * scale);  // from here on: weight, 1 for the best
    sum += c.logprob;
  }
  size_t keep = candidates_.size();
  if (top_p) {
    double head = 0;
    for (size_t i = 0; i < keep; ++i) {
      head += candidates_[i].logprob;
      if (head >= params_.top_p * sum) keep = i + 1;
    }
  }
  const auto floor = static_cast<float>(params_.min_p);
  const auto kept = [&](size_t i) { return candidates_[i].logprob >= floor; };
  double mass = 0;
  for (size_t i = 0; i < keep; ++i) mass += kept(i) ? candidates_[i].logprob : 0;
  double left = uniform * mass;
  Token last = candidates_.empty() ? ArgMax(logits) : candidates_.front().token;
  for (size_t i = 0; i < keep; ++i) {
    if (!kept(i) || candidates_[i].logprob <= 0) continue;
    last = candidates_[i].token;
    left -= candidates_[i].logprob;
    if (left < 0) break;
  }
  return last;
}

}  // namespace cyllm::llama
