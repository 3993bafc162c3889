#include "llama_cpp/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace cyllm::llama {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

uint64_t Mix(uint64_t x) {  // splitmix64's finalizer
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace

double UniformAt(uint64_t seed, uint32_t choice, uint32_t position, uint32_t draw) {
  const uint64_t bits = Mix(Mix(Mix(seed) ^ choice) ^ (uint64_t{position} << 32 | draw));
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
  scan_.Scan(logits);
  if (params_.logprobs) {
    total_ = scan_.max() + std::log(SumExp(logits, scan_.max(), 1));
    if (params_.top_logprobs > 0) {
      scan_.Top(std::min<size_t>(params_.top_logprobs, logits.size()), &out.top);
      for (ScoredToken& t : out.top) t.logprob = static_cast<float>(t.logprob - total_);
    }
  }
  Pick(logits, position, 0, banned, &out);
  return out;
}

Sample Sampler::ChooseAgain(std::span<float> logits, uint32_t position, std::span<const Token> banned,
                            Sample refused) {
  scan_.Scan(logits);
  Pick(logits, position, 1, banned, &refused);
  return refused;
}

// Of logits that are scanned.
void Sampler::Pick(std::span<float> logits, uint32_t position, uint32_t draw, std::span<const Token> banned,
                   Sample* out) {
  Adjust(logits, banned);
  if (!edits_.empty()) scan_.Scan(logits);
  out->token = params_.temperature <= 0 ? scan_.ArgMax()
                                        : Draw(logits, UniformAt(params_.seed, choice_, position, draw));
  if (!params_.logprobs) return;
  float own = logits[static_cast<size_t>(out->token)];
  const auto edit =
      std::find_if(edits_.begin(), edits_.end(), [&](auto& e) { return e.first == out->token; });
  if (edit != edits_.end()) own = edit->second;
  out->logprob = static_cast<float>(own - total_);
}

void Sampler::Count(Token token) {
  if (penalties_) ++seen_[token].output;
}

void Sampler::Adjust(std::span<float> logits, std::span<const Token> banned) {
  edits_.clear();
  const auto edit = [&](Token t, const auto& change) {
    if (t < 0 || static_cast<size_t>(t) >= logits.size()) return;
    float& logit = logits[static_cast<size_t>(t)];
    edits_.emplace_back(t, logit);  // the first one of a token counts
    logit = change(logit);
  };
  for (const auto& [token, bias] : params_.logit_bias) edit(token, [&](float l) { return l + bias; });
  for (const auto& [token, seen] : seen_) {
    edit(token, [&](float l) {
      const auto penalty = static_cast<float>(params_.repetition_penalty);
      l = l > 0 ? l / penalty : l * penalty;
      if (seen.output > 0)
        l -= static_cast<float>(params_.presence_penalty + params_.frequency_penalty * seen.output);
      return l;
    });
  }
  for (const Token token : banned) edit(token, [](float) { return kNever; });
}

// From logits to weights, 1 for the highest.
void Sampler::Weigh() {
  const auto scale = static_cast<float>(1 / params_.temperature);
  for (ScoredToken& c : candidates_) c.logprob = std::exp((c.logprob - scan_.max()) * scale);
}

// The candidates of top_p alone: the mass of all is known, and mostly few are enough for the share.
void Sampler::Nucleus(std::span<const float> logits) {
  const auto scale = static_cast<float>(1 / params_.temperature);
  const double mass = params_.top_p * SumExp(logits, scan_.max(), scale);
  for (const float depth : {4.0f, 8.0f, 16.0f, std::numeric_limits<float>::infinity()}) {
    scan_.AtLeast(scan_.max() - depth / scale, &candidates_);
    Weigh();
    double sum = 0;
    for (const ScoredToken& c : candidates_) sum += c.logprob;
    if (sum >= mass) break;
  }
  weights_.clear();
  for (const ScoredToken& c : candidates_) weights_.push_back(c.logprob);
  const float floor = MassFloor(weights_, mass);
  std::erase_if(candidates_, [&](const ScoredToken& c) { return c.logprob < floor; });
}

Token Sampler::DrawFromAll(std::span<const float> logits, double uniform) {
  const auto scale = static_cast<float>(1 / params_.temperature);
  double left = uniform * SumExp(logits, scan_.max(), scale, &weights_);
  constexpr size_t kBlock = 256;
  for (size_t begin = 0; begin < weights_.size(); begin += kBlock) {
    const size_t end = std::min(weights_.size(), begin + kBlock);
    const double block = Sum(std::span(weights_).subspan(begin, end - begin));
    if (left >= block) {
      left -= block;
      continue;
    }
    for (size_t i = begin; i < end; ++i) {
      left -= weights_[i];
      if (left < 0 && logits[i] > kNever) return static_cast<Token>(i);
    }
  }
  return scan_.ArgMax();  // rounding
}

Token Sampler::Draw(std::span<const float> logits, double uniform) {
  const bool top_p = params_.top_p < 1;
  if (params_.top_k > 0) {
    scan_.Top(std::min<size_t>(static_cast<size_t>(params_.top_k), logits.size()), &candidates_);
    Weigh();
  } else if (params_.min_p > 0) {
    // Share of the highest: known from the logit.
    const double floor = scan_.max() + std::log(params_.min_p) * params_.temperature;
    scan_.AtLeast(static_cast<float>(floor), &candidates_);
    Weigh();
  } else if (top_p) {
    Nucleus(logits);
  } else {
    return DrawFromAll(logits, uniform);
  }
  if (top_p && (params_.top_k > 0 || params_.min_p > 0)) {
    double sum = 0;
    weights_.clear();
    for (const ScoredToken& c : candidates_) {
      sum += c.logprob;
      weights_.push_back(c.logprob);
    }
    const float floor = MassFloor(weights_, params_.top_p * sum);
    std::erase_if(candidates_, [&](const ScoredToken& c) { return c.logprob < floor; });
  }
  const auto floor = static_cast<float>(params_.min_p);
  double mass = 0;
  for (const ScoredToken& c : candidates_) mass += c.logprob >= floor ? c.logprob : 0;
  double left = uniform * mass;
  Token last = candidates_.empty() ? scan_.ArgMax() : candidates_.front().token;
  for (const ScoredToken& c : candidates_) {
    if (c.logprob < floor || c.logprob <= 0) continue;
    last = c.token;
    left -= c.logprob;
    if (left < 0) break;
  }
  return last;
}

}  // namespace cyllm::llama
