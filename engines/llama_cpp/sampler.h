// From logits to a token.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "llama_cpp/decoder.h"
#include "llama_cpp/logit_scan.h"

namespace cyllm::llama {

// What a request asks for; the defaults are llama.cpp's.
struct SamplingParams {
  double temperature = 0.8;  // 0: the token with the highest logit
  int32_t top_k = 40;        // <= 0: off
  double top_p = 0.95;
  double min_p = 0.05;
  double repetition_penalty = 1;                       // over prompt and output
  double presence_penalty = 0, frequency_penalty = 0;  // over the output
  std::vector<std::pair<Token, float>> logit_bias;
  bool logprobs = false;
  uint32_t top_logprobs = 0;
  uint64_t seed = 0;
  bool has_seed = false;  // the request's; else drawn
};

struct Sample {
  Token token = 0;
  float logprob = 0;             // of the model's own distribution; only if asked for
  std::vector<ScoredToken> top;  // best first
};

// Not thread-safe. One per choice. Random numbers are a function of (seed, choice, position, draw): the same
// request draws the same ones whenever and beside whatever it runs.
class Sampler {
 public:
  Sampler(const SamplingParams& params, uint32_t choice, std::span<const Token> prompt);

  // Chooses the token at output position `position`; `banned` are not eligible. Changes `logits`.
  Sample Choose(std::span<float> logits, uint32_t position, std::span<const Token> banned);
  // Another draw for the position, after `refused` was chosen there and cannot be: from the same logits as
  // came, those of tokens that cannot be -infinity. The log probabilities stay the model's own.
  Sample ChooseAgain(std::span<float> logits, uint32_t position, std::span<const Token> banned,
                     Sample refused);
  // The token was produced: from now on it counts for the penalties.
  void Count(Token token);

 private:
  struct Seen {
    bool prompt = false;
    uint32_t output = 0;
  };

  void Pick(std::span<float> logits, uint32_t position, uint32_t draw, std::span<const Token> banned,
            Sample* out);
  void Adjust(std::span<float> logits, std::span<const Token> banned);
  Token Draw(std::span<const float> logits, double uniform);
  Token DrawFromAll(std::span<const float> logits, double uniform);
  void Nucleus(std::span<const float> logits);
  void Weigh();

  const SamplingParams params_;
  const uint32_t choice_;
  const bool penalties_;
  std::unordered_map<Token, Seen> seen_;
  double total_ = 0;  // of the logits that came, as a logit; only if log probabilities are asked for

  // Scratch.
  LogitScan scan_;
  std::vector<std::pair<Token, float>> edits_;  // by Adjust, with what was there before
  std::vector<ScoredToken> candidates_;
  std::vector<float> weights_;
};

// In [0, 1). Of a position, each draw has its own.
double UniformAt(uint64_t seed, uint32_t choice, uint32_t position, uint32_t draw = 0);

}  // namespace cyllm::llama
