// What an answer has cost, also where it was broken off: tokens delivered, prompts that were accepted.
#pragma once

#include <map>
#include <variant>

#include "inference/event.h"

namespace cyllm {

class Tally {
 public:
  void See(const Batch& events) {
    for (const Event& event : events) See(event);
  }
  void See(const Event& event) {
    std::visit([this](const auto& e) { Count(e); }, event);
  }
  uint32_t prompt_tokens() const { return prompts_; }
  uint32_t completion_tokens() const {
    uint32_t sum = 0;
    for (const auto& [choice, tokens] : choices_) sum += tokens;
    return sum;
  }

 private:
  template <class E>
  void Count(const E& event) {
    if constexpr (requires { event.end.tokens; }) choices_[event.choice] = event.end.tokens;
  }
  void Count(const Accepted& accepted) { prompts_ += accepted.prompt_tokens; }
  void Count(const Finished& finished) { choices_[finished.choice] = finished.usage.completion_tokens; }

  uint32_t prompts_ = 0;
  std::map<uint32_t, uint32_t> choices_;  // tokens
};

}  // namespace cyllm
