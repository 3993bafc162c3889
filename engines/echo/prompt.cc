#include "echo/prompt.h"

#include <boost/json.hpp>

#include "echo/values.h"
#include "sdk/engine.hpp"

namespace cyllm::echo {

namespace json = boost::json;

namespace {

// The text of a message's content: a string, or the text parts of an array.
std::string ContentText(const json::object& message) {
  const json::value* content = message.if_contains("content");
  if (!content) return {};
  if (content->is_string()) return std::string(content->get_string());
  std::string text;
  if (content->is_array()) {
    for (const json::value& part : content->get_array()) {
      const json::object* object = part.if_object();
      const json::value* t = object ? object->if_contains("text") : nullptr;
      if (t && t->is_string()) text += std::string_view(t->get_string());
    }
  }
  return text;
}

std::optional<Prompt> ReadMessages(std::string_view messages_json, std::string* error) {
  json::error_code ec;
  const json::value messages = json::parse(messages_json, ec);
  if (ec || !messages.is_array()) {
    *error = "messages must be an array";
    return std::nullopt;
  }
  Prompt prompt;
  for (const json::value& value : messages.get_array()) {
    const json::object* message = value.if_object();
    if (!message) {
      *error = "a message must be an object";
      return std::nullopt;
    }
    std::vector<std::string> words = Words(ContentText(*message));
    prompt.tokens += static_cast<uint32_t>(words.size());
    const json::value* role = message->if_contains("role");
    prompt.result.clear();
    if (role && role->is_string() && role->get_string() == "tool") prompt.result = words;
    if (role && role->is_string() && role->get_string() == "user") {
      prompt.words = std::move(words);
      prompt.text = ContentText(*message);
    }
  }
  return prompt;
}

// The first field of the body that asks for a form which echo cannot keep to; empty: none.
std::string UnknownForm(std::string_view extra_json) {
  json::error_code ec;
  const json::value extra = extra_json.empty() ? json::value() : json::parse(extra_json, ec);
  if (!extra.is_object()) return {};
  for (const char* name :
       {"guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "grammar"})
    if (const json::value* value = extra.get_object().if_contains(name);
        value && !value->is_null() && *value != "")
      return name;
  return {};
}

// A vector or a score of each input.
std::optional<Prompt> ReadInputs(const cyllm_request& request, std::string* error) {
  constexpr size_t kMost = 4096;
  if (request.n_inputs == 0 || request.n_inputs > kMost) {
    *error = "from 1 to 4096 inputs can be given";
    return std::nullopt;
  }
  Prompt prompt;
  for (size_t i = 0; i < request.n_inputs; ++i) {
    const cyllm_input input = sdk::Read(&sdk::At(request.inputs, i));
    std::string text(sdk::View(input.text));
    for (size_t k = 0; k < input.n_tokens; ++k) text += (k ? " t" : "t") + std::to_string(input.tokens[k]);
    prompt.tokens += static_cast<uint32_t>(Words(text).size());
    prompt.values.push_back(request.kind == CYLLM_KIND_EMBED
                                ? VectorOf(text, request.dimensions)
                                : std::vector<float>{ScoreOf(sdk::View(request.prompt), text)});
  }
  return prompt;
}

std::optional<Prompt> ReadTokens(const cyllm_request& request, std::string* error) {
  Prompt prompt;
  if (request.kind == CYLLM_KIND_TOKENIZE) {
    prompt.text = sdk::View(request.messages_json.len > 0 ? request.messages_json : request.prompt);
    prompt.token_ids = TokensOf(prompt.text);
  } else {
    if (request.n_prompt_tokens)
      prompt.token_ids.assign(request.prompt_tokens, request.prompt_tokens + request.n_prompt_tokens);
    if (!TextOf(request.prompt_tokens, request.n_prompt_tokens, &prompt.text)) {
      *error = "echo's tokens are bytes, from 0 to 255";
      return std::nullopt;
    }
  }
  prompt.tokens = static_cast<uint32_t>(prompt.token_ids.size());
  return prompt;
}

}  // namespace

std::vector<std::string> Words(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\f\v";
  std::vector<std::string> words;
  for (size_t at = text.find_first_not_of(kSpace); at != std::string_view::npos;) {
    const size_t end = std::min(text.find_first_of(kSpace, at), text.size());
    words.emplace_back(text.substr(at, end - at));
    at = text.find_first_not_of(kSpace, end);
  }
  return words;
}

std::optional<Prompt> ReadPrompt(const cyllm_request& request, std::string* error) {
  Prompt prompt;
  if (const std::string form = UnknownForm(sdk::View(request.extra_json)); !form.empty()) {
    *error = form + " is not known to echo";
    return std::nullopt;
  }
  switch (request.kind) {
    case CYLLM_KIND_CHAT: {
      std::optional<Prompt> chat = ReadMessages(sdk::View(request.messages_json), error);
      if (!chat) return chat;
      std::optional<Script> script = ReadScript(request, chat->text, error);
      if (!script && !error->empty()) return std::nullopt;
      if (script && script->dictated && !chat->result.empty()) {
        chat->words = std::move(chat->result);
      } else if (script) {
        chat->script = std::move(*script);
      }
      return chat;
    }
    case CYLLM_KIND_EMBED:
    case CYLLM_KIND_RERANK:
      return ReadInputs(request, error);
    case CYLLM_KIND_TOKENIZE:
    case CYLLM_KIND_DETOKENIZE:
      return ReadTokens(request, error);
    case CYLLM_KIND_TEXT:
      prompt.text = sdk::View(request.prompt);
      break;
    case CYLLM_KIND_TOKENS:
      for (size_t i = 0; i < request.n_prompt_tokens; ++i)
        prompt.text += (i ? " t" : "t") + std::to_string(request.prompt_tokens[i]);
      break;
    default:
      *error = "not a kind of request that echo knows";
      return std::nullopt;
  }
  prompt.words = Words(prompt.text);
  prompt.tokens = static_cast<uint32_t>(prompt.words.size());
  return prompt;
}

}  // namespace cyllm::echo
