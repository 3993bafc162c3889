#include "llama_cpp/speculation.h"

#include <algorithm>
#include <bit>

namespace cyllm::llama {

namespace {

constexpr size_t kShortest = 3, kLongest = 16;
constexpr double kForget = 0.95;           // twenty tokens or so count
constexpr double kAll = 0.1;               // of what all texts say
constexpr double kBelief = 2;              // what shorter matches say counts as so many tokens
constexpr double kGain = 1.1;              // less is noise
constexpr double kWeight = 0.3, kOdd = 3;  // of a new sample; an odd one counts as so many of the usual
constexpr double kReturn = 0.005;          // to what was assumed, in each step of one row

template <typename T>
void Learn(T sample, T* average) {
  *average += kWeight * (std::min(sample, kOdd * *average) - *average);
}

}  // namespace

Guess Lookup(std::span<const Token> text, uint32_t most) {
  const size_t size = text.size();
  if (size <= kShortest || most == 0) return {};
  const Token last = text[size - 1];
  size_t best = kShortest - 1, after = 0;
  for (size_t end = size - 1; end >= kShortest && best < kLongest; --end) {
    if (text[end - 1] != last) continue;
    size_t match = 1;
    while (match < kLongest && match < end && text[end - 1 - match] == text[size - 1 - match]) ++match;
    if (match <= best) continue;
    best = match;
    after = end;
  }
  if (after == 0) return {};
  return {text.subspan(after, std::min<size_t>(most, size - after)), static_cast<uint32_t>(best)};
}

size_t Acceptance::Bucket(uint32_t match) {
  return static_cast<size_t>(std::clamp<int>(std::bit_width(match), 2, 5)) - 2;  // 3, 4-7, 8-15, 16
}

double Acceptance::Rate(uint32_t match, const Acceptance& all) const {
  double rate = 0.5;
  for (size_t i = 0; i <= Bucket(match); ++i) {
    const Count &here = counts_[i], &there = all.counts_[i];
    rate = (here.right + kAll * there.right + kBelief * rate) / (here.all + kAll * there.all + kBelief);
  }
  return rate;
}

void Acceptance::Report(uint32_t match, uint32_t right, bool wrong) {
  Count& c = counts_[Bucket(match)];
  for (uint32_t i = 0; i < right + (wrong ? 1 : 0); ++i) {
    c.right = c.right * kForget + (i < right ? 1 : 0);
    c.all = c.all * kForget + 1;
  }
}

uint32_t GuessLength::Best(double rate, uint32_t most) const {
  uint32_t best = 0;
  double gain = kGain;
  for (size_t i = 0; i < kRows.size() && kRows[i] - 1 <= most; ++i) {
    double tokens = 1, chance = 1;
    for (uint32_t n = 1; n < kRows[i]; ++n) tokens += chance *= rate;
    if (tokens / cost_[i] <= gain) continue;
    gain = tokens / cost_[i];
    best = kRows[i] - 1;
  }
  return best;
}

void GuessLength::Report(uint32_t rows, Seconds took) {
  if (took <= Seconds(0)) return;
  if (rows == 1) {
    if (one_ <= Seconds(0)) one_ = took;
    Learn(took, &one_);
    for (size_t i = 0; i < cost_.size(); ++i) cost_[i] += kReturn * (kAssumed[i] - cost_[i]);
    return;
  }
  const auto it = std::find(kRows.begin(), kRows.end(), rows);
  if (it == kRows.end() || one_ <= Seconds(0)) return;
  Learn(std::max(1.0, took / one_), &cost_[static_cast<size_t>(it - kRows.begin())]);
}

}  // namespace cyllm::llama
