// POST /api/embed and, of older clients, /api/embeddings.
#include <fmt/format.h>

#include <cmath>

#include "base/utf8.h"
#include "gateway/dialects/common/messages.h"
#include "gateway/dialects/ollama/fields.h"
#include "gateway/dialects/ollama/ollama.h"

namespace cyllm::ollama {

namespace json = boost::json;
using dialect::Fields;

namespace {

std::string Numbers(const std::vector<float>& values) {
  std::string out = "[";
  for (size_t i = 0; i < values.size(); ++i)
    fmt::format_to(std::back_inserter(out), "{}{}", i ? "," : "",
                   std::isfinite(values[i]) ? values[i] : 0.0f);
  return out + "]";
}

class EmbedWriter final : public dialect::Writer {
 public:
  EmbedWriter(std::string model, size_t inputs, bool old_form)
      : Writer(1), model_(std::move(model)), old_form_(old_form), vectors_(inputs, "[]") {}

  void End(std::string& out) override {
    if (old_form_) {
      out += R"({"embedding":)" + vectors_.front() + '}';
      return;
    }
    fmt::format_to(std::back_inserter(out), R"({{"model":"{}","embeddings":[)", JsonEscape(model_));
    for (size_t i = 0; i < vectors_.size(); ++i) out += (i ? "," : "") + vectors_[i];
    fmt::format_to(std::back_inserter(out),
                   R"(],"total_duration":{},"load_duration":0,"prompt_eval_count":{}}})",
                   static_cast<int64_t>(std::max(totals().ttft_ms, 0.0) * 1e6), totals().prompt_tokens);
  }

 private:
  void Put(const Event& event, std::string&) override {
    const auto* values = std::get_if<Values>(&event);
    if (values && values->input < vectors_.size()) vectors_[values->input] = Numbers(values->values);
  }

  const std::string model_;
  const bool old_form_;
  std::vector<std::string> vectors_;
};

Result<dialect::Call> Parse(std::string_view body, const dialect::Limits& limits, bool old_form) {
  Result<json::object> object = dialect::ParseObject(body);
  if (!object) return Err(object.error());
  Fields fields(*object);
  dialect::Call call;
  RequestFacts facts;
  PayloadParts parts;
  facts.kind = Kind::kEmbed;
  facts.needs = kCapEmbed;
  ReadModel(fields, call, facts);
  const char* name = old_form ? "prompt" : "input";
  auto texts = fields.Strings(name, limits.max_inputs);
  if (!texts || texts->empty()) fields.Fail(name, "is required: a text");
  parts.dimensions = static_cast<uint32_t>(fields.Integer("dimensions", 1, 1 << 20).value_or(0));
  if (!fields.ok()) return Err(fields.status());
  for (std::string& text : *texts) {
    facts.prompt_tokens_estimate += dialect::EstimateTokens(text.size());
    parts.inputs.push_back({std::move(text), {}});
  }
  call.id_prefix = "ollama-";
  call.writer = [model = call.model, inputs = parts.inputs.size(),
                 old_form](const dialect::ResponseInfo&) -> std::unique_ptr<dialect::Writer> {
    return std::make_unique<EmbedWriter>(model, inputs, old_form);
  };
  call.requests.push_back({std::move(facts), Payload::Of(std::move(parts))});
  return call;
}

}  // namespace

Result<dialect::Call> ParseEmbed(std::string_view body, const dialect::Limits& limits) {
  return Parse(body, limits, false);
}
Result<dialect::Call> ParseOldEmbeddings(std::string_view body, const dialect::Limits& limits) {
  return Parse(body, limits, true);
}

}  // namespace cyllm::ollama
