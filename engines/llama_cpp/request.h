// A request as the engine keeps it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "llama_cpp/chat_template.h"
#include "llama_cpp/decoder.h"
#include "llama_cpp/output.h"
#include "llama_cpp/sampler.h"
#include "sdk/engine.h"

namespace cyllm::llama {

using TimePoint = std::chrono::steady_clock::time_point;

// Where a choice stood when another engine lost it.
struct ResumeState {
  std::vector<Token> tokens;
  cyllm_offsets delivered{};
};

struct Request {
  uint64_t id = 0;
  uint32_t kind = CYLLM_KIND_CHAT;
  uint32_t adapter = 0;  // Decoder::adapters
  int32_t priority = 0;
  uint32_t choices = 1;
  uint32_t max_tokens = 0;  // after FitPrompt: as many as there is room for
  uint32_t credit = 0;
  bool echo = false;
  SamplingParams sampling;
  uint32_t min_tokens = 0;
  bool ignore_eos = false;
  std::vector<Token> stop_tokens;
  std::vector<ResumeState> resume;  // of each choice, or empty
  TimePoint submitted;

  // As it came, for FillPrompt. Of a completion, `chat` has the format only.
  ChatInput chat;
  std::string text, suffix;

  std::vector<Token> prompt;  // TOKENS: from the start
  std::vector<uint64_t> prefix_hashes;
  OutputOptions output;                              // parser, special and echoed: of FillPrompt
  std::shared_ptr<const ConstraintSpec> constraint;  // of FillPrompt
  const TokenIndex* index = nullptr;                 // with a constraint
};

// The number of the adapter that it names (Decoder::adapters). nullopt and a filled `error`: there is none.
std::optional<uint32_t> ReadAdapter(const cyllm_request& in, const std::vector<std::string>& adapters,
                                    cyllm_error* error);

// Copies and checks what needs no model. Null and a filled `error` when the request is refused.
std::unique_ptr<Request> ReadRequest(const cyllm_request& in, uint32_t vocabulary, uint32_t adapter,
                                     cyllm_error* error);

// Renders, tokenises, and cuts max_tokens to a room of `max_length` tokens. False and a filled `error` when
// the prompt is at fault.
bool FillPrompt(const ChatTemplate& chat, const Vocabulary& vocabulary, uint32_t max_length, Request* request,
                cyllm_error* error);

}  // namespace cyllm::llama
