#include "llama_cpp/chat_template.h"

#include <chat.h>
#include <log.h>

#include <exception>

namespace cyllm::llama {

namespace {

class JinjaTemplate final : public ChatTemplate {
 public:
  explicit JinjaTemplate(common_chat_templates_ptr templates) : templates_(std::move(templates)) {}

  bool Render(const std::string& messages_json, const std::string& kwargs_json, std::string* prompt,
              std::string* error) const override try {
    common_chat_templates_inputs inputs;
    inputs.messages = common_chat_msgs_parse_oaicompat(common_json::parse(messages_json));
    if (inputs.messages.empty()) {
      *error = "messages: at least one is needed";
      return false;
    }
    if (!kwargs_json.empty()) {
      const common_json kwargs = common_json::parse(kwargs_json);
      for (const auto& [key, value] : kwargs.items()) inputs.chat_template_kwargs[key] = value.dump();
    }
    inputs.force_pure_content = true;  // the prompt only: no analysis of the template for an output parser
    *prompt = common_chat_templates_apply(templates_.get(), inputs).prompt;
    return true;
  } catch (const std::exception& e) {
    *error = std::string("messages: the model's chat template does not take them: ") + e.what();
    return false;
  }

  std::string source() const override { return common_chat_templates_source(templates_.get()); }

 private:
  const common_chat_templates_ptr templates_;
};

}  // namespace

std::unique_ptr<ChatTemplate> LoadChatTemplate(const llama_model* model, const std::string& override_source,
                                               std::string* error) try {
  common_log_set_verbosity_thold(-1);  // it writes to standard output
  common_chat_templates_ptr templates = common_chat_templates_init(model, override_source);
  return std::make_unique<JinjaTemplate>(std::move(templates));
} catch (const std::exception& e) {
  *error = std::string("the chat template is not valid: ") + e.what();
  return nullptr;
}

}  // namespace cyllm::llama
