// A request as the engine keeps it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "llama_cpp/decoder.h"
#include "llama_cpp/sampler.h"
#include "sdk/engine.h"

namespace cyllm::llama {

using TimePoint = std::chrono::steady_clock::time_point;

struct Request {
  uint64_t id = 0;
  uint32_t kind = CYLLM_KIND_CHAT;
  int32_t priority = 0;
  uint32_t choices = 1;
  uint32_t max_tokens = 0;  // after FitPrompt: as many as there is room for
  uint32_t credit = 0;
  bool echo = false;
  SamplingParams sampling;
  uint32_t min_tokens = 0;
  bool ignore_eos = false;
  std::vector<std::string> stop;
  std::vector<Token> stop_tokens;
  TimePoint submitted;

  // As it came; FillPrompt reads one of them.
  std::string messages_json, template_kwargs_json, text;

  std::vector<Token> prompt;  // TOKENS: from the start
  std::vector<uint64_t> prefix_hashes;
  std::string echoed;  // comes before the first token's text
};

// Copies and checks what needs no model. Null and a filled `error` when the request is refused.
std::unique_ptr<Request> ReadRequest(const cyllm_request& in, uint32_t vocabulary, cyllm_error* error);

class ChatTemplate;
class Vocabulary;

// Renders, tokenises, and cuts max_tokens to a room of `max_length` tokens. False and a filled `error` when
// the prompt is at fault.
bool FillPrompt(const ChatTemplate& chat, const Vocabulary& vocabulary, uint32_t max_length, Request* request,
                cyllm_error* error);

}  // namespace cyllm::llama
