// Finding the few logits that matter among tens of thousands, in one pass that the compiler turns into vector
// instructions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "llama_cpp/decoder.h"

namespace cyllm::llama {

struct ScoredToken {
  Token token;
  float logprob;
};

// Keeps the highest value of each block of logits: what is looked for then is looked for in few blocks. Not
// thread-safe; Scan before the others, and the logits stay as they are.
class LogitScan {
 public:
  void Scan(std::span<const float> logits);

  float max() const { return max_; }
  // The first of the highest.
  Token ArgMax() const;
  // The `k` highest, best first; of equal ones the first.
  void Top(size_t k, std::vector<ScoredToken>* out) const;
  // Those of at least `floor`, by token; never -infinity.
  void AtLeast(float floor, std::vector<ScoredToken>* out) const;

 private:
  static constexpr size_t kBlock = 64;

  std::span<const float> logits_;
  std::vector<float> maxima_;  // by block
  float max_ = 0;
};

// Weights exp((logit - max) * scale), 1 for the highest, to `out` if that is given. Returns their sum;
// relative error below 1e-6.
double SumExp(std::span<const float> logits, float max, float scale, std::vector<float>* out = nullptr);

// Of some hundred values; single precision.
double Sum(std::span<const float> values);

// The lowest of the highest weights that together reach `mass`. Reorders `weights`. 0 when all do not.
float MassFloor(std::span<float> weights, double mass);

}  // namespace cyllm::llama
