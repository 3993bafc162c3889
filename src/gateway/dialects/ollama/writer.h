// Events as Ollama's answers: a line of JSON each, or one object.
#pragma once

#include <string>

#include "gateway/dialects/common/dialect.h"

namespace cyllm::ollama {

struct Shape {
  std::string model;
  bool chat = true;  // a `message`; else a `response`
  bool stream = true;
  bool load_only = false;
};

class LineWriter final : public dialect::Writer {
 public:
  LineWriter(Shape shape, dialect::ResponseInfo info);

  void End(std::string& out) override;
  void Fail(const dialect::ApiError& error, std::string& out) override;

 private:
  void Put(const Event& event, std::string& out) override;
  void FlushCall(std::string& out);
  // What one object says: `calls` are the elements of tool_calls.
  void Append(std::string_view text, std::string_view thinking, std::string_view calls,
              std::string& out) const;

  const Shape shape_;
  const dialect::ResponseInfo info_;
  std::string created_at_;
  std::string text_, thinking_, calls_;  // not streamed: all of it
  ToolCallDelta call_;                   // being put together
  bool in_call_ = false;
  Finished finished_;
};

}  // namespace cyllm::ollama
