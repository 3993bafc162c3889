// What a request says, in words.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "echo/script.h"
#include "sdk/engine.h"

namespace cyllm::echo {

struct Prompt {
  uint32_t tokens = 0;              // words of all messages, or of the prompt
  std::vector<std::string> words;   // to be repeated
  std::vector<std::string> result;  // of a tool, when that is the last message
  std::string text;                 // TEXT and TOKENS: the prompt itself, for `echo`; TOKENIZE, DETOKENIZE
  Script script;                    // to be said instead of the words, if it has pieces
  std::vector<std::vector<float>> values;  // EMBED, RERANK
  std::vector<int32_t> token_ids;          // TOKENIZE, DETOKENIZE
};

// Cut at white space.
std::vector<std::string> Words(std::string_view text);

// std::nullopt (with `error`): not a prompt.
std::optional<Prompt> ReadPrompt(const cyllm_request& request, std::string* error);

}  // namespace cyllm::echo
