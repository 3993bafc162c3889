#include "llama_cpp/logit_scan.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

namespace cyllm::llama {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr size_t kLanes = 16;

// Independent lanes, so that the compiler can use vector maxima.
template <size_t N>
float MaxOf(const float* values) {
  std::array<float, kLanes> best;
  best.fill(kNever);
  for (size_t i = 0; i < N; i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) best[l] = values[i + l] > best[l] ? values[i + l] : best[l];
  float max = kNever;
  for (const float b : best) max = std::max(max, b);
  return max;
}

// exp of x <= 0: 2^n * e^r with |r| <= ln(2)/2, the latter by its Taylor polynomial of degree 6.
float Exp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to whole numbers
  constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  x = x < -87.0f ? -87.0f : x;
  const float n = (x * kLog2E + kRound) - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

bool Higher(const ScoredToken& a, const ScoredToken& b) {
  return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
}

}  // namespace

void LogitScan::Scan(std::span<const float> logits) {
  logits_ = logits;
  const size_t whole = logits.size() / kBlock;
  maxima_.resize((logits.size() + kBlock - 1) / kBlock);
  for (size_t b = 0; b < whole; ++b) maxima_[b] = MaxOf<kBlock>(logits.data() + b * kBlock);
  if (whole < maxima_.size()) {
    const auto rest = logits.subspan(whole * kBlock);
    maxima_[whole] = *std::max_element(rest.begin(), rest.end());
  }
  max_ = maxima_.empty() ? kNever : *std::max_element(maxima_.begin(), maxima_.end());
}

Token LogitScan::ArgMax() const {
  const auto block = std::find(maxima_.begin(), maxima_.end(), max_);
  if (block == maxima_.end()) return 0;
  const auto begin = logits_.begin() + (block - maxima_.begin()) * static_cast<std::ptrdiff_t>(kBlock);
  return static_cast<Token>(std::find(begin, logits_.end(), max_) - logits_.begin());
}

void LogitScan::Top(size_t k, std::vector<ScoredToken>* out) const {
  // k blocks have a value of at least the k-th highest maximum: no lower one is among the k highest.
  float floor = kNever;
  if (k > 0 && k <= maxima_.size()) {
    std::vector<float> maxima = maxima_;
    const auto kth = maxima.begin() + static_cast<std::ptrdiff_t>(k) - 1;
    std::nth_element(maxima.begin(), kth, maxima.end(), std::greater());
    floor = *kth;
  }
  AtLeast(floor, out);
  if (out->size() > k) {
    const auto end = out->begin() + static_cast<std::ptrdiff_t>(k);
    std::nth_element(out->begin(), end, out->end(), Higher);
    out->resize(k);
  }
  std::sort(out->begin(), out->end(), Higher);
}

void LogitScan::AtLeast(float floor, std::vector<ScoredToken>* out) const {
  out->clear();
  for (size_t b = 0; b < maxima_.size(); ++b) {
    if (maxima_[b] < floor || maxima_[b] == kNever) continue;
    const size_t end = std::min(logits_.size(), (b + 1) * kBlock);
    for (size_t i = b * kBlock; i < end; ++i)
      if (logits_[i] >= floor && logits_[i] > kNever) out->push_back({static_cast<Token>(i), logits_[i]});
  }
}

double SumExp(std::span<const float> logits, float max, float scale, std::vector<float>* out) {
  std::array<float, 256> chunk;
  if (out) out->resize(logits.size());
  double sum = 0;
  for (size_t i = 0; i < logits.size(); i += chunk.size()) {
    const size_t n = std::min(chunk.size(), logits.size() - i);
    float* const to = out ? out->data() + i : chunk.data();
    for (size_t l = 0; l < n; ++l) to[l] = Exp((logits[i + l] - max) * scale);
    sum += Sum({to, n});
  }
  return sum;
}

double Sum(std::span<const float> values) {
  std::array<float, kLanes> sums{};
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes)
    for (size_t k = 0; k < kLanes; ++k) sums[k] += values[i + k];
  for (; i < values.size(); ++i) sums[0] += values[i];
  double sum = 0;
  for (const float s : sums) sum += s;
  return sum;
}

float MassFloor(std::span<float> weights, double mass) {
  double above = 0;  // weight of what is certain to be part of it
  while (weights.size() > 1) {
    const float a = weights.front(), b = weights[weights.size() / 2], c = weights.back();
    const float pivot = std::max(std::min(a, b), std::min(std::max(a, b), c));
    const auto middle = std::partition(weights.begin(), weights.end(), [&](float w) { return w > pivot; });
    const auto equal = std::partition(middle, weights.end(), [&](float w) { return w == pivot; });
    double upper = 0;
    for (auto w = weights.begin(); w != middle; ++w) upper += *w;
    if (above + upper >= mass && middle != weights.begin()) {
      weights = {weights.begin(), middle};
      continue;
    }
    above += upper + static_cast<double>(equal - middle) * pivot;
    if (above >= mass || equal == weights.end()) return above >= mass ? pivot : 0;
    weights = {equal, weights.end()};
  }
  return weights.empty() || above + weights.front() < mass ? 0 : weights.front();
}

}  // namespace cyllm::llama
