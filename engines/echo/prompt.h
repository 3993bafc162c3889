// What a request says, in words.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sdk/engine.h"

namespace cyllm::echo {

struct Prompt {
  uint32_t tokens = 0;             // words of all messages, or of the prompt
  std::vector<std::string> words;  // to be repeated
  std::string text;                // TEXT and TOKENS: the prompt itself, for `echo`
};

// std::nullopt (with `error`): not a prompt.
std::optional<Prompt> ReadPrompt(const cyllm_request& request, std::string* error);

}  // namespace cyllm::echo
