// One request in the echo engine: its choices and when their next tokens are due.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "echo/options.h"
#include "echo/prompt.h"
#include "sdk/engine.hpp"
#include "sdk/stop_matcher.hpp"

namespace cyllm::echo {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;

// The events of one step, with what they point to.
class Step {
 public:
  cyllm_event& Add(uint64_t id, uint32_t type, uint32_t choice = 0);
  cyllm_str Keep(std::string text);
  const int32_t* Keep(int32_t token);
  const std::vector<int32_t>& Keep(std::vector<int32_t> tokens);
  const std::vector<float>& Keep(std::vector<float> values);
  const cyllm_logprob* Keep(const cyllm_logprob& logprob);
  const std::vector<cyllm_logprob>& Keep(std::vector<cyllm_logprob> logprobs);
  const cyllm_error* Keep(const cyllm_error& error);

  const std::vector<cyllm_event>& events() const { return events_; }
  void Clear();

 private:
  std::vector<cyllm_event> events_;
  std::deque<std::string> texts_;
  std::deque<int32_t> tokens_;
  std::deque<std::vector<int32_t>> token_lists_;
  std::deque<std::vector<float>> values_;
  std::deque<cyllm_logprob> logprobs_;
  std::deque<std::vector<cyllm_logprob>> logprob_lists_;
  std::deque<cyllm_error> errors_;
};

// Owned by the engine's thread.
class Job {
 public:
  Job(const cyllm_request& request, Prompt prompt, const Options& options, TimePoint now);

  // Takes up where the choices stood, before the first Advance. False (with `why`): that is no state of this
  // request.
  bool Resume(const cyllm_resume_choice* choices, std::string* why);

  // Adds the events that are due at `now` and for which there is credit.
  void Advance(TimePoint now, Step& step);
  // Adds the terminal event; `code` CYLLM_OK or why it ended.
  void End(int32_t code, const char* message, Step& step);
  void Credit(uint32_t events) { credit_ += events; }

  bool ended() const { return ended_; }
  // When Advance has something to do next; TimePoint::max(): only after Credit, or never.
  TimePoint due() const;

 private:
  struct Choice {
    explicit Choice(const std::vector<std::string>& stops) : stop(stops) {}
    sdk::StopMatcher stop;
    cyllm_offsets end{};
    TimePoint due;
    TimePoint first, last;
    bool finished = false;
    bool echoed = false;
    std::string pending;  // after Resume: text of replayed tokens that was not delivered
  };

  bool Produce(uint32_t index, TimePoint now, Step& step);
  bool Replay(Choice& choice, const cyllm_resume_choice& state, std::string* why);
  void Aside(Step& step);
  bool aside() const { return !prompt_.values.empty() || kind_ >= CYLLM_KIND_EMBED; }
  bool calls() const { return !prompt_.script.tool.empty(); }
  size_t WordAt(uint64_t n) const {
    if (!prompt_.script.pieces.empty()) return n;
    return prompt_.words.empty() ? 0 : n % prompt_.words.size();
  }
  std::string PieceAt(uint64_t n) const;
  bool Complete(const Choice& choice) const { return choice.end.tokens >= length_ || choice.stop.matched(); }
  void Emit(uint32_t index, std::string text, std::optional<int32_t> token, Step& step);
  void Finish(uint32_t index, uint32_t reason, Step& step);
  void Fail(Step& step);
  bool Hangs(const Choice& choice) const {
    return options_.hang_after && choice.end.tokens >= *options_.hang_after;
  }

  const uint64_t id_;
  const uint32_t kind_;
  const Prompt prompt_;
  const Options& options_;
  const TimePoint submitted_;
  const bool echo_, logprobs_;
  const uint32_t top_logprobs_;
  uint32_t length_ = 0;  // tokens per choice ...
  bool cut_ = false;     // ... because of max_tokens
  int64_t credit_;
  size_t told_ = 0;  // of the values
  bool accepted_ = false, ended_ = false;
  std::vector<Choice> choices_;
};

}  // namespace cyllm::echo
