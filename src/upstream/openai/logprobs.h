// The two forms of logprobs, of the choice object of a chunk. Token ids are not in them (0).
#pragma once

#include <boost/json/object.hpp>
#include <optional>
#include <vector>

#include "inference/event.h"

namespace cyllm::upstream {

// {"logprobs": {"content": [{"token", "bytes", "logprob", "top_logprobs": [...]}]}}
std::vector<TokenLogprob> ReadChatLogprobs(const boost::json::object& choice);
// {"logprobs": {"tokens": [...], "token_logprobs": [...], "top_logprobs": [{token: logprob}]}}, or, of
// llama-server, the form of chats
std::vector<TokenLogprob> ReadCompletionLogprobs(const boost::json::object& choice);

// The ids that llama-server adds to the form of chats; nothing unless every token has one.
std::optional<std::vector<int32_t>> ReadLogprobIds(const boost::json::object& choice);

}  // namespace cyllm::upstream
