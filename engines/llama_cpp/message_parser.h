// What a model's text says: content, thoughts, calls of tools.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cyllm::llama {

struct MessagePart {
  enum class Kind : uint8_t { kText, kReasoning, kToolCall };
  Kind kind = Kind::kText;
  std::string text;    // kToolCall: a piece of the arguments
  uint32_t call = 0;   // kToolCall: its index ...
  bool opens = false;  // ... the first part of it, which has the name
  std::string name;
};

// Not thread-safe; one per choice. What was given out is never taken back.
class MessageParser {
 public:
  virtual ~MessageParser() = default;

  // Takes a piece of text (whole code points) and adds what it tells.
  virtual void Push(std::string_view text, std::vector<MessagePart>* out) = 0;
  // At the end of the text.
  virtual void Finish(std::vector<MessagePart>* out) = 0;
};

using MakeParser = std::function<std::unique_ptr<MessageParser>()>;

// Thoughts between tags at the beginning, the rest to `inner`. With `thinking` the text begins inside of
// them.
std::unique_ptr<MessageParser> SplitReasoning(std::string start, std::vector<std::string> ends, bool thinking,
                                              std::unique_ptr<MessageParser> inner);

// Everything is content.
std::unique_ptr<MessageParser> PlainContent();

// Calls in the form that own_tools.h describes, content around them. `prefix`: what the prompt already holds
// of the text.
std::unique_ptr<MessageParser> ToolCallText(std::string_view prefix);

}  // namespace cyllm::llama
