// Log probabilities of tokens as JSON.
#pragma once

#include <string>
#include <vector>

#include "inference/event.h"

namespace cyllm::openai {

// The elements of `logprobs.content` of a chat, comma-separated.
void AppendChatLogprobs(const std::vector<TokenLogprob>& logprobs, std::string& out);

// The `logprobs` object of a completion's chunk. `offset`: code points before it; moved on.
void AppendTextLogprobs(const std::vector<TokenLogprob>& logprobs, uint64_t& offset, std::string& out);

}  // namespace cyllm::openai
