// POST /v1/embeddings.
#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "base/utf8.h"
#include "gateway/dialects/common/base64.h"
#include "gateway/dialects/common/messages.h"
#include "gateway/dialects/openai/openai.h"
#include "gateway/dialects/openai/sampling.h"

namespace cyllm::openai {

namespace json = boost::json;
using dialect::Fields;

namespace {

std::vector<Input> WrongInput(Fields& fields) {
  fields.Fail("input",
              "must be a string, an array of strings, an array of token ids, or an array of such arrays");
  return {};
}

// string | [string] | [int] | [[int]]
std::vector<Input> ReadInputs(Fields& fields, uint32_t max) {
  const json::value* value = fields.Find("input");
  if (!value) {
    fields.Fail("input", "is required");
    return {};
  }
  std::vector<Input> inputs;
  if (value->is_string()) {
    inputs.push_back({std::string(value->get_string()), {}});
    return inputs;
  }
  const json::array* array = value->if_array();
  if (!array || array->empty()) return WrongInput(fields);
  if (array->front().is_number()) {
    inputs.push_back({{}, ReadTokenIds(*array)});
    return inputs.front().tokens.empty() ? WrongInput(fields) : inputs;
  }
  if (array->size() > max) {
    fields.Fail("input", fmt::format("must have at most {} entries", max));
    return {};
  }
  for (const json::value& entry : *array) {
    if (entry.is_string()) {
      inputs.push_back({std::string(entry.get_string()), {}});
      continue;
    }
    std::vector<int32_t> ids = entry.is_array() ? ReadTokenIds(entry.get_array()) : std::vector<int32_t>();
    if (ids.empty()) return WrongInput(fields);
    inputs.push_back({{}, std::move(ids)});
  }
  return inputs;
}

class EmbeddingsWriter final : public dialect::Writer {
 public:
  EmbeddingsWriter(std::string model, size_t inputs, bool base64)
      : Writer(1), model_(std::move(model)), base64_(base64), vectors_(inputs) {}

  void End(std::string& out) override {
    out += R"({"object":"list","data":[)";
    for (size_t i = 0; i < vectors_.size(); ++i) {
      fmt::format_to(std::back_inserter(out), R"({}{{"object":"embedding","index":{},"embedding":{}}})",
                     i ? "," : "", i, vectors_[i].empty() ? "[]" : vectors_[i]);
    }
    fmt::format_to(std::back_inserter(out),
                   R"(],"model":"{}","usage":{{"prompt_tokens":{},"total_tokens":{}}}}})", JsonEscape(model_),
                   totals().prompt_tokens, totals().prompt_tokens);
  }

 private:
  void Put(const Event& event, std::string&) override {
    const auto* values = std::get_if<Values>(&event);
    if (values && values->input < vectors_.size())
      vectors_[values->input] = base64_ ? Packed(values->values) : Numbers(values->values);
  }

  // Little-endian floats.
  static std::string Packed(const std::vector<float>& values) {
    static_assert(std::endian::native == std::endian::little);
    const auto* bytes = reinterpret_cast<const char*>(values.data());
    return '"' + dialect::Base64({bytes, values.size() * sizeof(float)}) + '"';
  }

  static std::string Numbers(const std::vector<float>& values) {
    std::string out = "[";
    for (size_t i = 0; i < values.size(); ++i) {
      if (i) out += ',';
      fmt::format_to(std::back_inserter(out), "{}", std::isfinite(values[i]) ? values[i] : 0.0f);
    }
    return out + "]";
  }

  const std::string model_;
  const bool base64_;
  std::vector<std::string> vectors_;  // as JSON
};

}  // namespace

Result<dialect::Call> ParseEmbeddings(std::string_view body, const dialect::Limits& limits) {
  Result<json::object> object = dialect::ParseObject(body);
  if (!object) return Err(object.error());
  Fields fields(*object);
  dialect::Call call;
  RequestFacts facts;
  PayloadParts parts;
  facts.kind = Kind::kEmbed;
  facts.needs = kCapEmbed;
  facts.model = call.model = dialect::ReadModel(fields);
  facts.affinity = dialect::ReadAffinity(*object);
  parts.inputs = ReadInputs(fields, limits.max_inputs);
  parts.dimensions = static_cast<uint32_t>(fields.Integer("dimensions", 1, 1 << 20).value_or(0));
  const std::string format = fields.String("encoding_format").value_or("float");
  if (format != "float" && format != "base64") fields.Fail("encoding_format", "must be float or base64");
  if (!fields.ok()) return Err(fields.status());
  parts.extra_json = fields.RestJson();
  for (const Input& input : parts.inputs) {
    facts.prompt_tokens_estimate += input.tokens.empty() ? dialect::EstimateTokens(input.text.size())
                                                         : static_cast<uint32_t>(input.tokens.size());
  }
  call.id_prefix = "embd-";
  call.writer = [model = call.model, inputs = parts.inputs.size(), base64 = format == "base64"](
                    const dialect::ResponseInfo&) -> std::unique_ptr<dialect::Writer> {
    return std::make_unique<EmbeddingsWriter>(model, inputs, base64);
  };
  call.requests.push_back({std::move(facts), Payload::Of(std::move(parts))});
  return call;
}

}  // namespace cyllm::openai
