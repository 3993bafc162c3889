// The fields that chats and completions share.
#pragma once

#include "gateway/dialects/common/dialect.h"
#include "gateway/dialects/common/fields.h"

namespace cyllm::openai {

// How an answer looks, besides its text.
struct Shape {
  bool chat = true;  // else a completion
  std::string model;
  uint32_t n = 1, choices = 1;    // of each request; of all
  bool include_usage = false;     // stream_options
  bool continuous_usage = false;  // usage in every chunk (stream_options.continuous_usage_stats)
  bool logprobs = false;
  bool echo = false;
};

void ReadCommon(dialect::Fields& fields, const dialect::Limits& limits, dialect::Call& call, Shape& shape,
                RequestFacts& facts, Sampling& sampling);
std::optional<uint32_t> ReadMaxTokens(dialect::Fields& fields, const char* name);

// An array of token ids; empty when it is something else.
std::vector<int32_t> ReadTokenIds(const boost::json::array& in);

// The writer of `shape`'s answers, whole or streamed.
void SetWriter(dialect::Call& call, Shape shape);

}  // namespace cyllm::openai
