// Answers that come in one piece.
#include <array>
#include <bit>
#include <boost/json.hpp>
#include <cstring>
#include <limits>
#include <optional>

#include "upstream/openai/answer.h"
#include "upstream/openai/error.h"
#include "upstream/openai/values.h"

namespace cyllm::upstream {

namespace json = boost::json;

namespace {

// RFC 4648, section 4; padding may be missing. False for anything else.
bool DecodeBase64(std::string_view text, std::string& out) {
  static constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  static constexpr auto kValues = [] {
    std::array<int8_t, 256> values{};
    values.fill(-1);
    for (size_t i = 0; i < kAlphabet.size(); ++i)
      values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<int8_t>(i);
    return values;
  }();
  while (text.ends_with('=')) text.remove_suffix(1);
  uint32_t bits = 0;
  int have = 0;
  out.reserve(text.size() / 4 * 3 + 3);
  for (const unsigned char c : text) {
    if (kValues[c] < 0) return false;
    bits = bits << 6 | static_cast<uint32_t>(kValues[c]);
    have += 6;
    if (have < 8) continue;
    have -= 8;
    out += static_cast<char>(bits >> have & 0xff);
  }
  return true;
}

// Little-endian float32.
bool FloatsOfBase64(std::string_view text, std::vector<float>& out) {
  std::string bytes;
  if (!DecodeBase64(text, bytes) || bytes.size() % 4 != 0) return false;
  out.resize(bytes.size() / 4);
  for (size_t i = 0; i < out.size(); ++i) {
    uint32_t bits = 0;
    for (size_t b = 4; b-- > 0;) bits = bits << 8 | static_cast<unsigned char>(bytes[4 * i + b]);
    out[i] = std::bit_cast<float>(bits);
  }
  return true;
}

bool FloatsOfArray(const json::array& array, std::vector<float>& out) {
  out.reserve(array.size());
  for (const json::value& value : array) {
    json::error_code ec;
    if (!value.is_number()) return false;
    out.push_back(static_cast<float>(value.to_number<double>(ec)));
    if (ec) return false;
  }
  return true;
}

const json::array* Array(const json::value& value, std::string_view key) {
  const json::object* object = value.if_object();
  const json::value* found = object ? object->if_contains(key) : nullptr;
  return found ? found->if_array() : nullptr;
}

Usage UsageOf(const json::value& body) {
  const json::object* object = body.if_object();
  const json::value* usage = object ? object->if_contains("usage") : nullptr;
  if (!usage || !usage->is_object()) return {};
  Usage out = ReadUsage(usage->get_object());
  if (out.prompt_tokens == 0)  // some rankers tell the sum only
    out.prompt_tokens = static_cast<uint32_t>(
        std::clamp<int64_t>(ReadInteger(usage->get_object(), "total_tokens").value_or(0), 0, UINT32_MAX));
  return out;
}

// Which input an entry is about; nothing when it is out of range or was there before.
class Places {
 public:
  explicit Places(size_t inputs) : seen_(inputs) {}
  bool Take(int64_t index) {
    if (index < 0 || index >= static_cast<int64_t>(seen_.size()) || seen_[static_cast<size_t>(index)])
      return false;
    ++taken_;
    return seen_[static_cast<size_t>(index)] = true;
  }
  bool all() const { return taken_ == seen_.size(); }

 private:
  std::vector<bool> seen_;
  size_t taken_ = 0;
};

Status Embeddings(const json::value& body, size_t inputs, Batch& out) {
  const json::array* data = Array(body, "data");
  if (!data) return Garbage();
  Places places(inputs);
  for (const json::value& value : *data) {
    const json::object* entry = value.if_object();
    const json::value* embedding = entry ? entry->if_contains("embedding") : nullptr;
    if (!embedding) return Garbage();
    const int64_t index = ReadInteger(*entry, "index").value_or(-1);
    Values values{static_cast<uint32_t>(index), {}};
    const bool readable = embedding->is_string()  ? FloatsOfBase64(embedding->get_string(), values.values)
                          : embedding->is_array() ? FloatsOfArray(embedding->get_array(), values.values)
                                                  : false;
    if (!readable || !places.Take(index)) return Garbage();
    out.push_back(std::move(values));
  }
  return places.all() ? Status::Ok() : Garbage();
}

// {"results": [{"index", "relevance_score"}]}, or a bare array of {"index", "score"}.
Status Ranks(const json::value& body, size_t inputs, Batch& out) {
  const json::array* results = body.is_array() ? &body.get_array() : Array(body, "results");
  if (!results) return Garbage();
  Places places(inputs);
  for (const json::value& value : *results) {
    const json::object* entry = value.if_object();
    if (!entry) return Garbage();
    std::optional<double> score = ReadNumber(*entry, "relevance_score");
    if (!score) score = ReadNumber(*entry, "score");
    const int64_t index = ReadInteger(*entry, "index").value_or(-1);
    if (!score || !places.Take(index)) return Garbage();
    out.push_back(Values{static_cast<uint32_t>(index), {static_cast<float>(*score)}});
  }
  return places.all() ? Status::Ok() : Garbage();
}

// A text, or the bytes of what is none.
std::optional<std::string> Piece(const json::object& token) {
  const json::value* piece = token.if_contains("piece");
  if (piece && piece->is_string()) return std::string(piece->get_string());
  if (!piece || !piece->is_array()) return std::nullopt;
  std::string bytes;
  for (const json::value& byte : piece->get_array()) {
    if (!byte.is_int64() || byte.get_int64() < 0 || byte.get_int64() > 255) return std::nullopt;
    bytes += static_cast<char>(byte.get_int64());
  }
  return bytes;
}

// Ids, or objects with the piece of each.
std::optional<TextDelta> Tokens(const json::value& body) {
  const json::object* object = body.if_object();
  const json::value* tokens = object ? object->if_contains("tokens") : nullptr;
  if (!tokens || !tokens->is_array()) return std::nullopt;
  TextDelta delta;
  if (tokens->get_array().empty() || !tokens->get_array().front().is_object()) {
    auto ids = ReadIds(*object, "tokens");
    if (!ids) return std::nullopt;
    delta.token_ids = std::move(*ids);
  } else {
    for (const json::value& token : tokens->get_array()) {
      const auto id = token.is_object() ? ReadInteger(token.get_object(), "id") : std::nullopt;
      auto piece = id ? Piece(token.get_object()) : std::nullopt;
      if (!piece || *id < 0 || *id > std::numeric_limits<int32_t>::max()) return std::nullopt;
      delta.token_ids.push_back(static_cast<int32_t>(*id));
      delta.logprobs.push_back({delta.token_ids.back(), std::move(*piece), 0, {}});
    }
  }
  delta.end.tokens = delta.token_ids.size();
  return delta;
}

}  // namespace

Status ReadBody(Kind kind, size_t inputs, std::string_view text, const std::string& worker, Batch& out,
                std::string* detail) {
  json::error_code ec;
  const json::value body = json::parse(text, ec);
  if (ec) return Garbage();
  if (const json::object* object = body.if_object()) {
    const json::value* error = object->if_contains("error");
    if (error && !error->is_null()) return FromErrorJson(text, detail);
  }
  const Usage usage = UsageOf(body);
  Batch events;
  events.push_back(Accepted{usage.prompt_tokens, usage.cached_tokens, worker});
  Status status;
  switch (kind) {
    case Kind::kEmbed:
      status = Embeddings(body, inputs, events);
      break;
    case Kind::kRerank:
      status = Ranks(body, inputs, events);
      break;
    case Kind::kTokenize: {
      std::optional<TextDelta> tokens = Tokens(body);
      if (!tokens) return Garbage();
      events.push_back(std::move(*tokens));
      break;
    }
    case Kind::kDetokenize: {
      if (!body.is_object()) return Garbage();
      std::string_view said = ReadText(body.get_object(), "prompt");
      if (said.empty()) said = ReadText(body.get_object(), "content");
      events.push_back(TextDelta{0, std::string(said), {}, {}, {0, said.size(), 0, 0}});
      break;
    }
    default:
      return Garbage();
  }
  if (!status.ok()) return status;
  Finished finished;
  finished.usage = usage;
  finished.usage.completion_tokens = 0;
  events.push_back(finished);
  std::move(events.begin(), events.end(), std::back_inserter(out));
  return Status::Ok();
}

}  // namespace cyllm::upstream
