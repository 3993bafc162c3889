// One choice of a request: a sequence while it runs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "llama_cpp/constraint.h"
#include "llama_cpp/output.h"
#include "llama_cpp/request.h"
#include "llama_cpp/sampler.h"
#include "llama_cpp/speculation.h"
#include "llama_cpp/vocabulary.h"

namespace cyllm::llama {

// Not thread-safe; owned by the scheduler. The request and the vocabulary outlive it.
class Choice {
 public:
  Choice(const Request& request, uint32_t index, const Vocabulary& vocabulary);

  // Takes up where another engine stood: its tokens count as produced. False: they cannot be.
  bool Resume(const ResumeState& state);

  uint32_t index() const { return index_; }
  const Request& request() const { return request_; }

  // Tokens that the sequence is to hold, prompt first, and how many of them it does.
  std::span<const Token> tokens() const { return tokens_; }
  uint32_t computed() const { return computed_; }
  uint32_t missing() const { return static_cast<uint32_t>(tokens_.size()) - computed_; }
  uint32_t missing_prompt() const {
    const auto prompt = static_cast<uint32_t>(request_.prompt.size());
    return prompt > computed_ ? prompt - computed_ : 0;
  }
  bool prefilling() const { return !held() && (missing() > 1 || tokens_.size() == request_.prompt.size()); }
  void Computed(uint32_t tokens) { computed_ += tokens; }
  void Rewind() {  // it has lost its sequence
    computed_ = 0;
    held_.clear();
  }

  // `logits` of the last token: chooses the next one.
  void Next(std::span<float> logits, TimePoint now);

  // A grammar says what that one may be, which may take long.
  bool constrained() const { return constraint_.has_value(); }
  // Next, later: the logits are kept until then.
  void Hold(std::span<const float> logits) { held_.assign(logits.begin(), logits.end()); }
  bool held() const { return !held_.empty(); }
  void NextOfHeld(TimePoint now);

  // Of guesses at its text.
  Acceptance& acceptance() { return acceptance_; }

  bool finished() const { return reason_.has_value(); }
  void Finish(uint32_t reason);
  uint32_t reason() const { return reason_.value_or(CYLLM_FINISH_STOP); }
  uint32_t generated() const { return generated_; }
  Output& output() { return output_; }
  // Of its call number `call`: whoever produces the same answer gives the same.
  std::string CallId(uint32_t call) const;

  void Started(TimePoint now) { started_ = started_ ? started_ : now; }
  double queue_ms() const { return Since(request_.submitted, started_); }
  double ttft_ms() const { return Since(request_.submitted, first_); }
  double decode_ms() const { return first_ ? Since(*first_, last_) : 0; }

 private:
  static double Since(TimePoint from, std::optional<TimePoint> to) {
    return to ? std::chrono::duration<double, std::milli>(*to - from).count() : 0;
  }
  std::span<const Token> Banned();
  Sample Choose(std::span<float> logits);
  void Take(const Sample& sample);

  const Request& request_;
  const uint32_t index_;
  const Vocabulary& vocabulary_;
  Sampler sampler_;
  std::optional<Constraint> constraint_;
  Output output_;
  Acceptance acceptance_;
  std::vector<Token> tokens_;  // prompt, and what was generated and is to be computed
  std::vector<Token> banned_;
  std::vector<float> logits_;  // scratch: as they came
  std::vector<float> held_;
  uint32_t computed_ = 0;
  uint32_t generated_ = 0;  // with the one that ended it
  std::optional<uint32_t> reason_;
  std::optional<TimePoint> started_, first_, last_;
};

}  // namespace cyllm::llama
