// Events as a response: its output items one after the other, each a message, a function call or reasoning.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gateway/dialects/common/dialect.h"

namespace cyllm::responses {

struct Shape {
  std::string model;
  std::string echo;  // the request's parameters as JSON fields, from a comma on
  bool logprobs = false;
};

// Streamed: the events that lead to each state. Not streamed: the response in its last state only.
class ResponseWriter final : public dialect::Writer {
 public:
  ResponseWriter(Shape shape, dialect::ResponseInfo info, bool stream);

  void Start(std::string& out) override;
  void End(std::string& out) override;
  bool TellsInStream(const dialect::ApiError& error) const override;
  void Fail(const dialect::ApiError& error, std::string& out) override;

 private:
  enum class Kind : uint8_t { kMessage, kCall, kReasoning };
  struct Item {
    Kind kind;
    uint32_t tool;  // index of the call
    std::string id, call_id, name;
    std::string text;      // of a call: its arguments
    std::string logprobs;  // of the text's tokens, comma-separated
  };

  void Put(const Event& event, std::string& out) override;
  // The open item, which becomes one of this kind.
  Item& Open(Kind kind, const ToolCallDelta* call, std::string& out);
  void PutText(const TextDelta& delta, std::string& out);
  void Close(std::string& out, std::string_view status = "completed");  // the open item, if there is one
  std::string ItemJson(const Item& item, std::string_view status) const;
  std::string ResponseJson(std::string_view status, std::string_view error, bool usage) const;
  // One event; `fields` is what it has besides type and number.
  void Emit(std::string_view type, std::string_view fields, std::string& out);
  std::string Place(const Item& item) const;

  const Shape shape_;
  const dialect::ResponseInfo info_;
  const bool stream_;
  uint64_t sequence_ = 0;
  std::optional<Item> open_;
  std::string held_;               // logprobs of tokens that have shown no text yet
  std::vector<std::string> done_;  // items as JSON
  FinishReason reason_ = FinishReason::kStop;
};

// {"object":"response.input_tokens","input_tokens":N}
class CountWriter final : public dialect::Writer {
 public:
  CountWriter() : Writer(1) {}
  void End(std::string& out) override;

 private:
  void Put(const Event& event, std::string& out) override;

  uint32_t tokens_ = 0;
};

}  // namespace cyllm::responses
