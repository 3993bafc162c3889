// The visible text of one choice: from tokens to pieces that may be sent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "llama_cpp/detokenizer.h"
#include "llama_cpp/sampler.h"
#include "llama_cpp/vocabulary.h"
#include "sdk/engine.h"
#include "sdk/stop_matcher.hpp"

namespace cyllm::llama {

struct TokenScore {
  Sample sample;
  std::string bytes;                   // of sample.token
  std::vector<std::string> top_bytes;  // of sample.top
};

// A piece of text with the tokens that it took.
struct Delta {
  std::string text;
  std::vector<Token> tokens;
  std::vector<TokenScore> scores;  // one per token, if asked for
  cyllm_offsets end{};
};

// Not thread-safe. Text is held back while it may be part of a stop string or of an unfinished code point;
// tokens wait with it.
class Output {
 public:
  Output(const Vocabulary& vocabulary, std::vector<std::string> stop, bool scores, std::string echoed);

  // Takes a token; with `match` its text may complete a stop string.
  void Push(const Sample& sample, bool match);

  // No token follows: what was held back becomes text.
  void Finish();

  // The text since the last call; nullopt when there is none. At the end tokens without text come too.
  std::optional<Delta> Take();

  cyllm_offsets end() const { return pending_.end; }  // what Take gave out
  const std::optional<std::string>& stop_match() const { return stop_.matched(); }

 private:
  const Vocabulary& vocabulary_;
  const bool scores_;
  Detokenizer detokenizer_;
  sdk::StopMatcher stop_;
  Delta pending_;
  bool finished_ = false;
};

}  // namespace cyllm::llama
