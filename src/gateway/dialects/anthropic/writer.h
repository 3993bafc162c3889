// Events as Anthropic's messages: one body, or the events of a stream.
#pragma once

#include <string>
#include <vector>

#include "gateway/dialects/common/dialect.h"

namespace cyllm::anthropic {

class StreamWriter final : public dialect::Writer {
 public:
  StreamWriter(std::string model, dialect::ResponseInfo info);

  void End(std::string& out) override;
  void Fail(const dialect::ApiError& error, std::string& out) override;

 private:
  enum class Block : uint8_t { kNone, kText, kThinking, kTool };

  void Put(const Event& event, std::string& out) override;
  void Begin(const Accepted& accepted, std::string& out);  // message_start, once
  // Makes a block of this kind the open one; `start`: its content_block.
  void Open(Block block, uint32_t tool, std::string_view start, std::string& out);
  void Close(std::string& out);
  void Delta(std::string_view type, std::string_view field, std::string_view text, std::string& out);

  const std::string model_;
  const dialect::ResponseInfo info_;
  bool begun_ = false;
  Block open_ = Block::kNone;
  uint32_t tool_ = 0;  // of the open block, where it is one
  int index_ = -1;     // of the newest block
  Finished finished_;
};

class MessageWriter final : public dialect::Writer {
 public:
  MessageWriter(std::string model, dialect::ResponseInfo info);

  void End(std::string& out) override;

 private:
  void Put(const Event& event, std::string& out) override;

  const std::string model_;
  const dialect::ResponseInfo info_;
  std::string text_, thinking_;
  std::vector<ToolCallDelta> calls_;
  Finished finished_;
};

// {"input_tokens": N}
class CountWriter final : public dialect::Writer {
 public:
  CountWriter() : Writer(1) {}
  void End(std::string& out) override;

 private:
  void Put(const Event& event, std::string& out) override;

  uint32_t tokens_ = 0;
};

}  // namespace cyllm::anthropic
