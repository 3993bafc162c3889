// The model's chat template and all else that is taken from llama.cpp's "common" library, whose interface is
// not promised to stay: chat_template.cc is the one place that knows it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "llama_cpp/constraint.h"
#include "llama_cpp/message_parser.h"

struct llama_model;

namespace cyllm::llama {

// JSON as it came in cyllm_request; all but the messages may be empty.
struct ChatInput {
  std::string messages, tools, tool_choice, response_format, kwargs, extra;
  bool parallel_tool_calls = true;
};

// What the model continues, and how its answer is held to a form and read.
struct ChatPrompt {
  std::string text;
  std::shared_ptr<ConstraintSpec> constraint;  // `special` is left to the caller; null: free text
  std::vector<std::string> special;            // tokens whose text counts, as they are written
  std::vector<std::string> stops;              // more stop strings
  MakeParser parser;                           // null: everything is content
};

// What is wrong with an input, and which of its fields it is about.
struct ChatError {
  std::string message;
  const char* param = "messages";
};

// Thread-safe.
class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;

  // A last message of the assistant is continued. False and `error` when the template, the messages, the
  // tools or the format do not allow it. What a hostile schema may cost is bounded.
  virtual bool Render(const ChatInput& in, ChatPrompt* out, ChatError* error) const = 0;

  // What the text of a completion is held to (ReadFormat); null: nothing. As Render otherwise.
  virtual bool Hold(const std::string& response_format, const std::string& extra,
                    std::shared_ptr<const ConstraintSpec>* out, ChatError* error) const = 0;

  virtual std::string source() const = 0;
};

// `override_source`: Jinja; empty: the model's own, or ChatML where it has none. Null and `error` when it is
// no valid template. Lives no longer than `model`.
std::unique_ptr<ChatTemplate> LoadChatTemplate(const llama_model* model, const std::string& override_source,
                                               std::string* error);

}  // namespace cyllm::llama
