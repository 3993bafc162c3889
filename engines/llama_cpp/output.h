// The visible answer of one choice: from tokens to pieces that may be sent.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "llama_cpp/detokenizer.h"
#include "llama_cpp/message_parser.h"
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

// A piece of the answer with the tokens that it took. Of several that one token gives the last has the token:
// who got a token, got all that came of it but what is held back.
struct Delta {
  MessagePart part;
  std::vector<Token> tokens;
  std::vector<TokenScore> scores;  // one per token, if asked for
  cyllm_offsets end{};
};

struct OutputOptions {
  std::vector<std::string> stop;
  bool scores = false;
  std::string echoed;                    // comes first
  std::map<Token, std::string> special;  // tokens that have a text for the parser
  MakeParser parser;                     // null: everything is content
};

// Not thread-safe. Text is held back while it may be part of a stop string, of a tag or of an unfinished code
// point; tokens wait with it. Stop strings are looked for in the content only.
class Output {
 public:
  Output(const Vocabulary& vocabulary, const OutputOptions& options);

  // Takes a token; with `match` its text may complete a stop string.
  void Push(const Sample& sample, bool match);

  // No token follows: what was held back becomes text.
  void Finish();

  // The first piece that is there; nullopt when there is none. At the end tokens without text come too.
  std::optional<Delta> Take();

  // What was delivered before, by another engine, of the tokens pushed so far; the same bytes are not given
  // out again. False when the tokens do not say so much.
  bool Skip(const cyllm_offsets& delivered);

  // Whether Take has nothing to give now.
  bool empty() const { return queue_.empty() && !(finished_ && !waiting_.tokens.empty()); }

  cyllm_offsets end() const { return end_; }  // what Take gave out
  bool called() const { return called_; }     // a tool
  uint32_t reasoning_tokens() const { return reasoning_tokens_; }
  const std::optional<std::string>& stop_match() const { return stop_.matched(); }

 private:
  void Add(std::vector<MessagePart> parts, bool match);
  bool Queue(MessagePart part);  // false: there was nothing in it
  void Attach(Delta* delta);
  uint64_t& BytesOf(cyllm_offsets* offsets, MessagePart::Kind kind) const;

  const Vocabulary& vocabulary_;
  const bool scores_;
  const std::map<Token, std::string> special_;
  const std::unique_ptr<MessageParser> parser_;  // null: everything is content
  Detokenizer detokenizer_;
  sdk::StopMatcher stop_;
  std::deque<Delta> queue_;
  Delta waiting_;                 // tokens whose text is held back
  cyllm_offsets end_{}, owed_{};  // owed: delivered before, and still to come from what is held back
  uint32_t reasoning_tokens_ = 0;
  bool finished_ = false, called_ = false;
};

}  // namespace cyllm::llama
