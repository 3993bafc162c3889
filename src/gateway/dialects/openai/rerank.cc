// POST /v1/rerank (the form of Cohere, Jina and llama.cpp; with `texts` that of text-embeddings-inference).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/utf8.h"
#include "gateway/dialects/common/messages.h"
#include "gateway/dialects/openai/openai.h"
#include "gateway/dialects/openai/sampling.h"

namespace cyllm::openai {

namespace json = boost::json;
using dialect::Fields;

namespace {

struct RerankShape {
  std::string model;
  bool bare = false;  // text-embeddings-inference: an array without more
  size_t top_n = 0;
  bool with_text = false;
  std::vector<std::string> texts;  // with_text
  size_t count = 0;
};

std::vector<Input> ReadDocuments(Fields& fields, const char* name, uint32_t max) {
  std::vector<Input> out;
  const json::array* documents = fields.Array(name);
  if (!documents || documents->empty()) {
    fields.Fail(name, "must be an array of texts, not empty");
    return out;
  }
  if (documents->size() > max) {
    fields.Fail(name, fmt::format("must have at most {} entries", max));
    return out;
  }
  for (const json::value& document : *documents) {
    const json::object* object = document.if_object();
    const json::value* text = object ? object->if_contains("text") : &document;
    if (!text || !text->is_string()) {
      fields.Fail(name, "must be an array of texts");
      return out;
    }
    out.push_back({std::string(text->get_string()), {}});
  }
  return out;
}

class RerankWriter final : public dialect::Writer {
 public:
  explicit RerankWriter(RerankShape shape) : Writer(1), shape_(std::move(shape)), scores_(shape_.count) {}

  void End(std::string& out) override {
    std::vector<size_t> order(scores_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return scores_[a] != scores_[b] ? scores_[a] > scores_[b] : a < b; });
    order.resize(std::min(order.size(), shape_.top_n));
    if (!shape_.bare)
      fmt::format_to(std::back_inserter(out), R"({{"object":"list","model":"{}","results":)",
                     JsonEscape(shape_.model));
    out += '[';
    for (size_t i = 0; i < order.size(); ++i) {
      if (i) out += ',';
      Append(order[i], out);
    }
    out += ']';
    if (!shape_.bare)
      fmt::format_to(std::back_inserter(out), R"(,"usage":{{"prompt_tokens":{},"total_tokens":{}}}}})",
                     totals().prompt_tokens, totals().prompt_tokens);
  }

 private:
  void Put(const Event& event, std::string&) override {
    const auto* values = std::get_if<Values>(&event);
    if (values && values->input < scores_.size() && !values->values.empty() &&
        std::isfinite(values->values.front()))
      scores_[values->input] = values->values.front();
  }

  void Append(size_t index, std::string& out) const {
    fmt::format_to(std::back_inserter(out), R"({{"index":{},"{}":{})", index,
                   shape_.bare ? "score" : "relevance_score", scores_[index]);
    if (shape_.with_text) {
      out += shape_.bare ? R"(,"text":")" : R"(,"document":{"text":")";
      AppendJsonEscaped(out, shape_.texts[index]);
      out += shape_.bare ? "\"" : "\"}";
    }
    out += '}';
  }

  const RerankShape shape_;
  std::vector<float> scores_;
};

}  // namespace

Result<dialect::Call> ParseRerank(std::string_view body, const dialect::Limits& limits) {
  Result<json::object> object = dialect::ParseObject(body);
  if (!object) return Err(object.error());
  Fields fields(*object);
  dialect::Call call;
  RerankShape shape;
  RequestFacts facts;
  PayloadParts parts;
  facts.kind = Kind::kRerank;
  facts.needs = kCapRerank;
  facts.model = shape.model = call.model = dialect::ReadModel(fields);
  facts.affinity = dialect::ReadAffinity(*object);
  auto query = fields.String("query");
  if (!query) fields.Fail("query", "is required");
  shape.bare = fields.Has("texts");
  parts.inputs = ReadDocuments(fields, shape.bare ? "texts" : "documents", limits.max_inputs);
  shape.count = parts.inputs.size();
  shape.top_n = static_cast<size_t>(
      fields.Integer("top_n", 1, int64_t{1} << 31).value_or(static_cast<int64_t>(shape.count)));
  shape.with_text = fields.Bool(shape.bare ? "return_text" : "return_documents").value_or(false);
  if (!fields.ok()) return Err(fields.status());
  parts.extra_json = fields.RestJson();
  parts.prompt = std::move(*query);
  for (const Input& input : parts.inputs) {
    facts.prompt_tokens_estimate += dialect::EstimateTokens(input.text.size() + parts.prompt.size());
    if (shape.with_text) shape.texts.push_back(input.text);
  }
  call.id_prefix = "rerank-";
  call.writer = [shape = std::move(shape)](const dialect::ResponseInfo&) -> std::unique_ptr<dialect::Writer> {
    return std::make_unique<RerankWriter>(shape);
  };
  call.requests.push_back({std::move(facts), Payload::Of(std::move(parts))});
  return call;
}

}  // namespace cyllm::openai
