#include "gateway/dialects/openai/sampling.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

#include "gateway/dialects/openai/writer.h"

namespace cyllm::openai {

namespace json = boost::json;
using dialect::Fields;

namespace {

constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxStops = 16;

void ReadStops(Fields& fields, Sampling& sampling) {
  if (auto stops = fields.Strings("stop", kMaxStops)) sampling.stop = std::move(*stops);
  std::erase(sampling.stop, std::string());
}

void ReadLogitBias(Fields& fields, Sampling& sampling) {
  const json::object* biases = fields.Object("logit_bias");
  if (!biases) return;
  for (const auto& [key, value] : *biases) {
    json::error_code ec;
    const double bias =
        value.is_number() ? value.to_number<double>(ec) : std::numeric_limits<double>::quiet_NaN();
    if (bias == 0) continue;
    int32_t token = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), token);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || token < 0 ||
        !(bias >= -100 && bias <= 100))
      return fields.Fail("logit_bias", "must map token ids to numbers from -100 to 100");
    sampling.logit_bias.emplace_back(token, static_cast<float>(bias));
  }
}

void ReadStopTokens(Fields& fields, Sampling& sampling) {
  const json::array* ids = fields.Array("stop_token_ids");
  if (!ids) return;
  for (const json::value& id : *ids) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() > kMaxTokens)
      return fields.Fail("stop_token_ids", "must be an array of token ids");
    sampling.stop_token_ids.push_back(static_cast<int32_t>(id.get_int64()));
  }
}

}  // namespace

void ReadCommon(Fields& fields, const dialect::Limits& limits, dialect::Call& call, Shape& shape,
                RequestFacts& facts, Sampling& sampling) {
  facts.model = shape.model = call.model = dialect::ReadModel(fields);
  call.stream = fields.Bool("stream").value_or(false);
  if (json::object* options = fields.Object("stream_options"); options && call.stream) {
    Fields stream_options(*options, "stream_options.");
    shape.include_usage = stream_options.Bool("include_usage").value_or(false);
    shape.continuous_usage = stream_options.Bool("continuous_usage_stats").value_or(false);
    if (!stream_options.ok()) fields.Fail(stream_options.status());
  }
  call.n = static_cast<uint32_t>(fields.Integer("n", 1, limits.max_choices).value_or(1));
  facts.choices = shape.n = shape.choices = call.n;
  facts.seed =
      fields.Integer("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
  facts.priority = static_cast<int32_t>(fields.Integer("priority", -1000, 1000).value_or(0));
  sampling.temperature = fields.Number("temperature", 0, 2);
  sampling.top_p = fields.Number("top_p", 0, 1);
  sampling.min_p = fields.Number("min_p", 0, 1);
  if (const auto top_k = fields.Integer("top_k", -1, kMaxTokens))
    sampling.top_k = static_cast<int32_t>(*top_k);
  sampling.repetition_penalty = fields.Number("repetition_penalty", 0.01, 10);
  sampling.presence_penalty = fields.Number("presence_penalty", -2, 2);
  sampling.frequency_penalty = fields.Number("frequency_penalty", -2, 2);
  sampling.ignore_eos = fields.Bool("ignore_eos").value_or(false);
  sampling.min_tokens = static_cast<uint32_t>(fields.Integer("min_tokens", 0, kMaxTokens).value_or(0));
  ReadStops(fields, sampling);
  ReadLogitBias(fields, sampling);
  ReadStopTokens(fields, sampling);
}

std::optional<uint32_t> ReadMaxTokens(Fields& fields, const char* name) {
  const json::value* value = fields.Find(name);
  if (value && value->is_int64() && value->get_int64() == -1) {
    fields.Fail(name, "must be 0 or more; leave it out for no limit");
    return std::nullopt;
  }
  const auto number = fields.Integer(name, 0, kMaxTokens);
  return number ? std::optional(static_cast<uint32_t>(*number)) : std::nullopt;
}

std::vector<int32_t> ReadTokenIds(const json::array& in) {
  std::vector<int32_t> out;
  out.reserve(in.size());
  for (const json::value& id : in) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() > kMaxTokens) return {};
    out.push_back(static_cast<int32_t>(id.get_int64()));
  }
  return out;
}

void SetWriter(dialect::Call& call, Shape shape) {
  if (call.requests.size() == 1) call.requests.front().facts.verbatim = call.stream;
  call.id_prefix = shape.chat ? "chatcmpl-" : "cmpl-";
  call.writer = [shape = std::move(shape),
                 stream = call.stream](dialect::ResponseInfo info) -> std::unique_ptr<dialect::Writer> {
    if (stream) return std::make_unique<ChunkWriter>(shape, std::move(info));
    return std::make_unique<BodyWriter>(shape, std::move(info));
  };
}

}  // namespace cyllm::openai
