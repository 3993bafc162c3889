// POST /tokenize and /detokenize, in llama.cpp's spelling and in vLLM's; answers have the fields of both.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/utf8.h"
#include "gateway/dialects/common/messages.h"
#include "gateway/dialects/openai/openai.h"
#include "gateway/dialects/openai/sampling.h"

namespace cyllm::openai {

namespace json = boost::json;
using dialect::Fields;

namespace {

class TokensWriter final : public dialect::Writer {
 public:
  TokensWriter(bool text, bool pieces, dialect::ResponseInfo info)
      : Writer(1), text_(text), pieces_(pieces), info_(std::move(info)) {}

  void End(std::string& out) override {
    if (text_) {
      const std::string text = JsonEscape(value_);
      fmt::format_to(std::back_inserter(out), R"({{"content":"{}","prompt":"{}"}})", text, text);
    } else {
      fmt::format_to(std::back_inserter(out), R"({{"tokens":[{}],"count":{})", value_, count_);
      const uint32_t longest = info_.context_length ? info_.context_length() : 0;
      if (longest > 0) fmt::format_to(std::back_inserter(out), R"(,"max_model_len":{})", longest);
      out += '}';
    }
  }

 private:
  void Put(const Event& event, std::string&) override {
    const auto* delta = std::get_if<TextDelta>(&event);
    if (!delta) return;
    if (text_) {
      value_ += delta->text;
      return;
    }
    for (size_t i = 0; i < delta->token_ids.size(); ++i) {
      if (count_++ > 0) value_ += ',';
      if (pieces_) {
        const std::string* piece = i < delta->logprobs.size() ? &delta->logprobs[i].bytes : nullptr;
        fmt::format_to(std::back_inserter(value_), R"({{"id":{},"piece":{}}})", delta->token_ids[i],
                       piece ? PieceJson(*piece) : "null");
      } else {
        fmt::format_to(std::back_inserter(value_), "{}", delta->token_ids[i]);
      }
    }
  }

  // A text, or the bytes of what is none, as llama.cpp's server has it.
  static std::string PieceJson(const std::string& bytes) {
    if (IsValidUtf8(bytes)) return '"' + JsonEscape(bytes) + '"';
    return fmt::format("[{}]", fmt::join(std::vector<uint8_t>(bytes.begin(), bytes.end()), ","));
  }

  const bool text_, pieces_;
  const dialect::ResponseInfo info_;
  std::string value_;
  size_t count_ = 0;
};

dialect::Call CallOf(std::string model, Kind kind, RequestFacts facts, PayloadParts parts) {
  dialect::Call call;
  call.model = facts.model = std::move(model);
  facts.kind = kind;
  facts.needs = kCapTokenize;
  call.id_prefix = "tok-";
  call.writer = [text = kind == Kind::kDetokenize, pieces = parts.sampling.logprobs](
                    dialect::ResponseInfo info) -> std::unique_ptr<dialect::Writer> {
    return std::make_unique<TokensWriter>(text, pieces, std::move(info));
  };
  call.requests.push_back({std::move(facts), Payload::Of(std::move(parts))});
  return call;
}

}  // namespace

Result<dialect::Call> ParseTokenize(std::string_view body, const dialect::Limits&) {
  Result<json::object> object = dialect::ParseObject(body);
  if (!object) return Err(object.error());
  Fields fields(*object);
  RequestFacts facts;
  PayloadParts parts;
  std::string model = dialect::ReadModel(fields);
  const bool llama_cpp = fields.Has("content");
  if (json::array* messages = fields.Array("messages")) {
    if (Status s = dialect::NormalizeMessages(*messages); !s.ok()) return Err(std::move(s));
    dialect::PutMessages(*messages, facts, parts);
  } else if (auto text = fields.String(llama_cpp ? "content" : "prompt")) {
    parts.prompt = std::move(*text);
    facts.prompt_tokens_estimate = dialect::EstimateTokens(parts.prompt.size());
  } else {
    fields.Fail("prompt", "is required: a text, or 'content', or 'messages'");
  }
  parts.no_special_tokens = !(llama_cpp ? fields.Bool("add_special").value_or(false)
                                        : fields.Bool("add_special_tokens").value_or(true));
  parts.sampling.logprobs = fields.Bool("with_pieces").value_or(false);
  if (!fields.ok()) return Err(fields.status());
  return CallOf(std::move(model), Kind::kTokenize, std::move(facts), std::move(parts));
}

Result<dialect::Call> ParseDetokenize(std::string_view body, const dialect::Limits&) {
  Result<json::object> object = dialect::ParseObject(body);
  if (!object) return Err(object.error());
  Fields fields(*object);
  RequestFacts facts;
  PayloadParts parts;
  std::string model = dialect::ReadModel(fields);
  const json::array* tokens = fields.Array("tokens");
  if (!tokens) {
    fields.Fail("tokens", "is required: an array of token ids");
  } else {
    parts.prompt_tokens = ReadTokenIds(*tokens);
    if (parts.prompt_tokens.size() != tokens->size()) fields.Fail("tokens", "must be an array of token ids");
    facts.prompt_tokens_estimate = static_cast<uint32_t>(parts.prompt_tokens.size());
  }
  if (!fields.ok()) return Err(fields.status());
  return CallOf(std::move(model), Kind::kDetokenize, std::move(facts), std::move(parts));
}

}  // namespace cyllm::openai
