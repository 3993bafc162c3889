#include "llama_cpp/request.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "llama_cpp/chat_template.h"
#include "llama_cpp/vocabulary.h"
#include "sdk/engine.hpp"

namespace cyllm::llama {

namespace {

constexpr double kGreedyBelow = 1e-5;  // dividing by less than that overflows
constexpr uint32_t kMaxChoices = 128;

double Or(double value, double otherwise) { return std::isnan(value) ? otherwise : value; }

uint64_t RandomSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

SamplingParams ReadSampling(const cyllm_request& in, const cyllm_sampling& s) {
  SamplingParams out;
  out.temperature = Or(s.temperature, out.temperature);
  if (out.temperature < kGreedyBelow) out.temperature = 0;
  if (s.top_k != INT32_MIN) out.top_k = s.top_k;
  out.top_p = std::clamp(Or(s.top_p, out.top_p), 0.0, 1.0);
  out.min_p = std::clamp(Or(s.min_p, out.min_p), 0.0, 1.0);
  out.repetition_penalty = Or(s.repetition_penalty, out.repetition_penalty);
  if (out.repetition_penalty <= 0) out.repetition_penalty = 1;
  out.presence_penalty = Or(s.presence_penalty, out.presence_penalty);
  out.frequency_penalty = Or(s.frequency_penalty, out.frequency_penalty);
  for (size_t i = 0; i < s.n_logit_bias; ++i)
    out.logit_bias.emplace_back(s.logit_bias[i].token, s.logit_bias[i].bias);
  out.logprobs = s.logprobs != 0;
  out.top_logprobs = s.top_logprobs;
  out.has_seed = in.has_seed != 0;
  out.seed = in.has_seed ? static_cast<uint64_t>(in.seed) : RandomSeed();
  return out;
}

ResumeState ReadResume(const cyllm_resume_choice& in) {
  ResumeState out;
  if (in.n_token_ids) out.tokens.assign(in.token_ids, in.token_ids + in.n_token_ids);
  out.delivered = {in.n_token_ids, in.text_bytes, in.reasoning_bytes, in.tool_argument_bytes};
  return out;
}

// Renders the messages, and learns from the template how the answer is written.
bool FillChat(const ChatTemplate& chat, const Vocabulary& vocabulary, Request* request, cyllm_error* error) {
  ChatPrompt prompt;
  ChatError wrong;
  if (!chat.Render(request->chat, &prompt, &wrong)) {
    sdk::Fail(error, CYLLM_INVALID_ARGUMENT, wrong.message, "invalid_value", wrong.param);
    return false;
  }
  request->text = std::move(prompt.text);
  request->output.parser = std::move(prompt.parser);
  request->output.stop.insert(request->output.stop.end(), prompt.stops.begin(), prompt.stops.end());
  for (const std::string& special : prompt.special)
    if (const std::vector<Token> tokens = vocabulary.Tokenize(special, false); tokens.size() == 1)
      request->output.special.emplace(tokens[0], special);
  if (prompt.constraint) {
    prompt.constraint->special.assign(request->output.special.begin(), request->output.special.end());
    request->constraint = std::move(prompt.constraint);
  }
  return true;
}

bool FillFormat(const ChatTemplate& chat, Request* request, cyllm_error* error) {
  ChatError wrong;
  if (chat.Hold(request->chat.response_format, request->chat.extra, &request->constraint, &wrong))
    return true;
  sdk::Fail(error, CYLLM_INVALID_ARGUMENT, wrong.message, "invalid_value", wrong.param);
  return false;
}

// What comes before, what comes after, and the model writes the middle.
bool FillInfill(const Vocabulary& vocabulary, Request* request, cyllm_error* error) {
  const std::optional<Vocabulary::Infill> infill = vocabulary.infill();
  if (!infill || request->kind != CYLLM_KIND_TEXT) {
    sdk::Fail(error, CYLLM_UNIMPLEMENTED, "this model has no tokens for filling in a middle", "unsupported",
              "suffix");
    return false;
  }
  request->prompt = vocabulary.Tokenize("");  // what prompts begin with
  const auto add = [&](Token token, std::string_view text) {
    request->prompt.push_back(token);
    const std::vector<Token> tokens = vocabulary.Tokenize(text, false);
    request->prompt.insert(request->prompt.end(), tokens.begin(), tokens.end());
  };
  add(infill->prefix, request->text);
  add(infill->suffix, request->suffix);
  request->prompt.push_back(infill->middle);
  return true;
}

}  // namespace

std::optional<uint32_t> ReadAdapter(const cyllm_request& in, const std::vector<std::string>& adapters,
                                    cyllm_error* error) {
  const std::string_view name = sdk::View(in.adapter);
  if (name.empty()) return 0;
  const auto it = std::find(adapters.begin(), adapters.end(), name);
  if (it != adapters.end()) return static_cast<uint32_t>(it - adapters.begin()) + 1;
  sdk::Fail(error, CYLLM_NOT_FOUND, "the model has no adapter '" + std::string(name) + "'",
            "adapter_not_found", "adapter");
  return std::nullopt;
}

std::unique_ptr<Request> ReadRequest(const cyllm_request& in, uint32_t vocabulary, uint32_t adapter,
                                     cyllm_error* error) {
  const auto wrong = [&](const char* message, const char* param) {
    sdk::Fail(error, CYLLM_INVALID_ARGUMENT, message, "invalid_value", param);
    return nullptr;
  };
  if (in.n == 0 || in.n > kMaxChoices) return wrong("n must be from 1 to 128", "n");
  const cyllm_sampling s = sdk::Read(in.sampling);
  for (size_t i = 0; i < in.n_prompt_tokens; ++i)
    if (in.prompt_tokens[i] < 0 || static_cast<uint32_t>(in.prompt_tokens[i]) >= vocabulary)
      return wrong("prompt: not a token of this model", "prompt");
  for (size_t i = 0; i < s.n_logit_bias; ++i)
    if (s.logit_bias[i].token < 0 || static_cast<uint32_t>(s.logit_bias[i].token) >= vocabulary)
      return wrong("logit_bias: not a token of this model", "logit_bias");

  auto out = std::make_unique<Request>();
  out->id = in.id;
  out->kind = in.kind;
  out->adapter = adapter;
  out->priority = in.priority;
  out->choices = in.n;
  out->max_tokens = in.max_tokens;
  out->credit = in.credit;
  if (in.resume)
    for (uint32_t i = 0; i < in.n; ++i) out->resume.push_back(ReadResume(in.resume[i]));
  for (const ResumeState& state : out->resume)
    for (const Token token : state.tokens)
      if (token < 0 || static_cast<uint32_t>(token) >= vocabulary)
        return wrong("the state to resume from has tokens that this model has not", "");
  out->echo = in.echo != 0 && in.kind != CYLLM_KIND_CHAT;
  out->sampling = ReadSampling(in, s);
  out->min_tokens = s.min_tokens;
  out->ignore_eos = s.ignore_eos != 0;
  for (size_t i = 0; i < s.n_stop; ++i) out->output.stop.emplace_back(sdk::View(s.stop[i]));
  if (s.n_stop_token_ids) out->stop_tokens.assign(s.stop_token_ids, s.stop_token_ids + s.n_stop_token_ids);
  out->chat.response_format = sdk::View(in.response_format_json);
  out->chat.extra = sdk::View(in.extra_json);
  if (in.kind == CYLLM_KIND_CHAT) {
    out->chat.messages = sdk::View(in.messages_json);
    out->chat.tools = sdk::View(in.tools_json);
    out->chat.tool_choice = sdk::View(in.tool_choice_json);
    out->chat.kwargs = sdk::View(in.template_kwargs_json);
    out->chat.parallel_tool_calls = in.parallel_tool_calls != 0;
  }
  out->output.scores = s.logprobs != 0;
  out->text = sdk::View(in.prompt);
  if (in.n_prefix_hashes) out->prefix_hashes.assign(in.prefix_hashes, in.prefix_hashes + in.n_prefix_hashes);
  out->suffix = sdk::View(in.suffix);
  if (in.n_prompt_tokens) out->prompt.assign(in.prompt_tokens, in.prompt_tokens + in.n_prompt_tokens);
  return out;
}

namespace {

// About how many tokens a text has, if that is far more than `max_length`: its beginning tells so, and no
// more of it is read.
std::optional<size_t> FarTooLong(const Vocabulary& vocabulary, std::string_view text, uint32_t max_length) {
  constexpr size_t kBytesPerToken = 16;  // many, but for texts of blanks and the like
  size_t part = max_length * kBytesPerToken;
  if (text.size() < 2 * part) return std::nullopt;
  while (part > 0 && (text[part] & 0xC0) == 0x80) --part;
  const size_t tokens = vocabulary.Tokenize(text.substr(0, part)).size();
  if (tokens < size_t{2} * max_length) return std::nullopt;
  return static_cast<size_t>(static_cast<double>(tokens) / static_cast<double>(part) *
                             static_cast<double>(text.size()));
}

bool TooLong(const char* about, size_t length, uint32_t max_length, const char* param, cyllm_error* error) {
  // Agents look for these very words to know that they must shorten their history.
  sdk::Fail(error, CYLLM_INVALID_ARGUMENT,
            "this model's maximum context length is " + std::to_string(max_length) +
                " tokens; the prompt has " + about + std::to_string(length) +
                " and exceeds the available context size",
            "context_length_exceeded", param);
  return false;
}

}  // namespace

bool FillPrompt(const ChatTemplate& chat, const Vocabulary& vocabulary, uint32_t max_length, Request* request,
                cyllm_error* error) {
  const char* const param = request->kind == CYLLM_KIND_CHAT ? "messages" : "prompt";
  const bool filled = request->kind == CYLLM_KIND_CHAT ? FillChat(chat, vocabulary, request, error)
                                                       : FillFormat(chat, request, error);
  if (!filled) return false;
  if (HasLongStretch(request->text) || HasLongStretch(request->suffix)) {
    sdk::Fail(error, CYLLM_INVALID_ARGUMENT,
              "the prompt has " + std::to_string(kLongStretch) + " characters or more without a break",
              "invalid_value", param);
    return false;
  }
  if (!request->suffix.empty()) {
    if (!FillInfill(vocabulary, request, error)) return false;
  } else if (request->kind != CYLLM_KIND_TOKENS) {
    if (const auto length = FarTooLong(vocabulary, request->text, max_length))
      return TooLong("about ", *length, max_length, param, error);
    request->prompt = vocabulary.Tokenize(request->text);
  }
  if (request->echo) {
    request->output.echoed = request->text;
    if (request->kind == CYLLM_KIND_TOKENS)
      for (const Token token : request->prompt) request->output.echoed += vocabulary.Piece(token);
  }
  request->chat = {};
  request->suffix.clear();
  request->text.clear();
  const size_t length = request->prompt.size();
  if (length == 0) {
    sdk::Fail(error, CYLLM_INVALID_ARGUMENT, "the prompt is empty", "invalid_value", param);
    return false;
  }
  if (length >= max_length) return TooLong("", length, max_length, param, error);
  request->max_tokens = std::min(request->max_tokens, max_length - static_cast<uint32_t>(length));
  return true;
}

}  // namespace cyllm::llama
