#include "echo/prompt.h"

#include <boost/json.hpp>

#include "sdk/engine.hpp"

namespace cyllm::echo {

namespace json = boost::json;

namespace {

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
    if (role && role->is_string() && role->get_string() == "user") prompt.words = std::move(words);
  }
  return prompt;
}

}  // namespace

std::optional<Prompt> ReadPrompt(const cyllm_request& request, std::string* error) {
  Prompt prompt;
  switch (request.kind) {
    case CYLLM_KIND_CHAT:
      return ReadMessages(sdk::View(request.messages_json), error);
    case CYLLM_KIND_TEXT:
      prompt.text = sdk::View(request.prompt);
      break;
    case CYLLM_KIND_TOKENS:
      for (size_t i = 0; i < request.n_prompt_tokens; ++i)
        prompt.text += (i ? " t" : "t") + std::to_string(request.prompt_tokens[i]);
      break;
    default:
      *error = "echo answers chats and completions only";
      return std::nullopt;
  }
  prompt.words = Words(prompt.text);
  prompt.tokens = static_cast<uint32_t>(prompt.words.size());
  return prompt;
}

}  // namespace cyllm::echo
