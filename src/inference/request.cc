#include "inference/request.h"

#include <utility>

#include "inference/wire.h"

namespace cyllm {

std::shared_ptr<const Payload> Payload::Of(PayloadParts parts) {
  std::shared_ptr<Payload> payload(new Payload);
  payload->parts_ = std::move(parts);
  payload->has_parts_ = true;
  return payload;
}

std::shared_ptr<const Payload> Payload::FromBytes(std::string bytes) {
  std::shared_ptr<Payload> payload(new Payload);
  payload->bytes_ = std::move(bytes);
  payload->has_bytes_ = true;
  return payload;
}

Result<const PayloadParts*> Payload::parts() const {
  if (!has_parts_) {
    std::call_once(decoded_, [this] {
      cy::llm::Payload message;
      malformed_ = !message.ParseFromString(bytes_);
      if (!malformed_) parts_ = wire::Get(std::move(message));
    });
    if (malformed_) return Err(InvalidArgument("malformed payload"));
  }
  return &parts_;
}

Status CannotDo(uint32_t missing) {
  static constexpr std::pair<Capability, const char*> kNames[] = {
      {kCapChat, "chats"},        {kCapText, "completions"},   {kCapTokens, "prompts of tokens"},
      {kCapEmbed, "embeddings"},  {kCapRerank, "ranks"},       {kCapTools, "tools"},
      {kCapLogprobs, "logprobs"}, {kCapJsonSchema, "formats"}, {kCapVision, "images"},
      {kCapInfill, "suffix"},     {kCapLora, "adapters"},      {kCapTokenize, "tokens of texts"}};
  std::string names;
  for (const auto& [bit, name] : kNames)
    if (missing & bit) names += (names.empty() ? ": " : ", ") + std::string(name);
  return MakeStatus(Code::kUnimplemented, "the model's engine cannot do what the request needs" + names,
                    "unsupported",
                    missing & kCapTools    ? "tools"
                    : missing & kCapInfill ? "suffix"
                                           : "");
}

const std::string& Payload::bytes() const {
  if (!has_bytes_) {
    std::call_once(joined_, [this] {
      bytes_.reserve(size());
      for (const std::string_view piece : pieces()) bytes_ += piece;
    });
  }
  return bytes_;
}

const std::vector<std::string_view>& Payload::pieces() const {
  std::call_once(encoded_, [this] {
    if (has_bytes_) {
      pieces_ = {bytes_};
    } else {
      pieces_ = wire::Pieces(parts_, &encoded_small_);
    }
  });
  return pieces_;
}

size_t Payload::size() const {
  size_t size = 0;
  for (const std::string_view piece : pieces()) size += piece.size();
  return size;
}

}  // namespace cyllm
