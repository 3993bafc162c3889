#include "upstream/openai/logprobs.h"

#include <algorithm>
#include <boost/json.hpp>
#include <limits>

#include "upstream/openai/values.h"

namespace cyllm::upstream {

namespace json = boost::json;

namespace {

constexpr float kLowest = -9999;  // what servers say for minus infinity, which JSON lacks

const json::object* Logprobs(const json::object& choice) {
  const json::value* value = choice.if_contains("logprobs");
  return value ? value->if_object() : nullptr;
}

const json::array* Array(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value ? value->if_array() : nullptr;
}

// The raw bytes where they are given: a token may be part of a code point.
std::string Bytes(const json::object& token) {
  std::string out;
  if (const json::array* bytes = Array(token, "bytes")) {
    for (const json::value& byte : *bytes) {
      if (!byte.is_int64() || byte.get_int64() < 0 || byte.get_int64() > 255) break;
      out += static_cast<char>(byte.get_int64());
    }
    if (out.size() == bytes->size()) return out;
  }
  return std::string(ReadText(token, "token"));
}

TokenLogprob Token(const json::object& object) {
  TokenLogprob out;
  out.bytes = Bytes(object);
  out.logprob = static_cast<float>(ReadNumber(object, "logprob").value_or(kLowest));
  return out;
}

}  // namespace

std::vector<TokenLogprob> ReadChatLogprobs(const json::object& choice) {
  std::vector<TokenLogprob> out;
  const json::object* logprobs = Logprobs(choice);
  const json::array* content = logprobs ? Array(*logprobs, "content") : nullptr;
  if (!content) return out;
  for (const json::value& value : *content) {
    if (!value.is_object()) continue;
    TokenLogprob token = Token(value.get_object());
    if (const json::array* top = Array(value.get_object(), "top_logprobs")) {
      for (const json::value& other : *top)
        if (other.is_object()) token.top.push_back(Token(other.get_object()));
    }
    out.push_back(std::move(token));
  }
  return out;
}

std::optional<std::vector<int32_t>> ReadLogprobIds(const json::object& choice) {
  const json::object* logprobs = Logprobs(choice);
  const json::array* content = logprobs ? Array(*logprobs, "content") : nullptr;
  if (!content) return std::nullopt;
  std::vector<int32_t> ids;
  for (const json::value& token : *content) {
    const auto id = token.is_object() ? ReadInteger(token.get_object(), "id") : std::nullopt;
    if (!id || *id < 0 || *id > std::numeric_limits<int32_t>::max()) return std::nullopt;
    ids.push_back(static_cast<int32_t>(*id));
  }
  return ids;
}

std::vector<TokenLogprob> ReadCompletionLogprobs(const json::object& choice) {
  std::vector<TokenLogprob> out;
  const json::object* logprobs = Logprobs(choice);
  const json::array* tokens = logprobs ? Array(*logprobs, "tokens") : nullptr;
  if (!tokens) return ReadChatLogprobs(choice);
  const json::array* numbers = Array(*logprobs, "token_logprobs");
  const json::array* tops = Array(*logprobs, "top_logprobs");
  const auto number = [](const json::value& value) {
    json::error_code ec;
    const double v = value.is_number() ? value.to_number<double>(ec) : kLowest;
    return ec ? kLowest : static_cast<float>(v);
  };
  for (size_t i = 0; i < tokens->size(); ++i) {
    TokenLogprob token;
    if (const json::string* text = (*tokens)[i].if_string()) token.bytes = std::string(*text);
    token.logprob = numbers && i < numbers->size() ? number((*numbers)[i]) : kLowest;
    const json::object* top = tops && i < tops->size() ? (*tops)[i].if_object() : nullptr;
    if (top) {
      for (const auto& [text, value] : *top) token.top.push_back({0, std::string(text), number(value), {}});
      std::sort(token.top.begin(), token.top.end(), [](const TokenLogprob& a, const TokenLogprob& b) {
        return a.logprob != b.logprob ? a.logprob > b.logprob : a.bytes < b.bytes;
      });
    }
    out.push_back(std::move(token));
  }
  return out;
}

}  // namespace cyllm::upstream
