// The model's chat template. The one place that knows llama.cpp's "common" library, whose interface is not
// promised to stay.
#pragma once

#include <memory>
#include <string>

struct llama_model;

namespace cyllm::llama {

// Immutable; Render is for one thread at a time.
class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;

  // OpenAI messages (a JSON array) to the prompt that the model continues. `kwargs_json`: an object or empty.
  // False and the reason when the template or the messages do not allow it.
  virtual bool Render(const std::string& messages_json, const std::string& kwargs_json, std::string* prompt,
                      std::string* error) const = 0;

  virtual std::string source() const = 0;
};

// `override_source`: Jinja; empty: the model's own, or ChatML where it has none. Null and `error` when it is
// no valid template. Lives no longer than `model`.
std::unique_ptr<ChatTemplate> LoadChatTemplate(const llama_model* model, const std::string& override_source,
                                               std::string* error);

}  // namespace cyllm::llama
