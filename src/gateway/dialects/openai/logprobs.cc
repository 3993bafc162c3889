#include "gateway/dialects/openai/logprobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/utf8.h"

namespace cyllm::openai {

namespace {

// JSON has no infinities; OpenAI says -9999.0 for "practically impossible".
double Finite(float logprob) { return std::max(static_cast<double>(logprob), -9999.0); }

// The first token of an echoed prompt has none.
void AppendLogprob(float logprob, std::string& out) {
  if (std::isnan(logprob)) {
    out += "null";
  } else {
    fmt::format_to(std::back_inserter(out), "{}", Finite(logprob));
  }
}

void AppendToken(const TokenLogprob& token, std::string& out) {
  out += R"({"token":")";
  AppendJsonEscaped(out, token.bytes);
  fmt::format_to(std::back_inserter(out), R"(","logprob":{},"bytes":[)", Finite(token.logprob));
  for (size_t i = 0; i < token.bytes.size(); ++i)
    fmt::format_to(std::back_inserter(out), "{}{}", i ? "," : "", static_cast<unsigned char>(token.bytes[i]));
  out += ']';
}

}  // namespace

void AppendChatLogprobs(const std::vector<TokenLogprob>& logprobs, std::string& out) {
  for (size_t i = 0; i < logprobs.size(); ++i) {
    if (i) out += ',';
    AppendToken(logprobs[i], out);
    out += R"(,"top_logprobs":[)";
    for (size_t j = 0; j < logprobs[i].top.size(); ++j) {
      if (j) out += ',';
      AppendToken(logprobs[i].top[j], out);
      out += '}';
    }
    out += "]}";
  }
}

void AppendTextLogprobs(const std::vector<TokenLogprob>& logprobs, uint64_t& offset, std::string& out) {
  std::string tokens, values, tops, offsets;
  for (size_t i = 0; i < logprobs.size(); ++i) {
    const char* comma = i ? "," : "";
    fmt::format_to(std::back_inserter(tokens), R"({}"{}")", comma, JsonEscape(logprobs[i].bytes));
    values += comma;
    AppendLogprob(logprobs[i].logprob, values);
    fmt::format_to(std::back_inserter(offsets), "{}{}", comma, offset);
    offset += CountCodePoints(logprobs[i].bytes);
    tops += i ? ",{" : "{";
    for (size_t j = 0; j < logprobs[i].top.size(); ++j) {
      const TokenLogprob& top = logprobs[i].top[j];
      fmt::format_to(std::back_inserter(tops), R"({}"{}":{})", j ? "," : "", JsonEscape(top.bytes),
                     Finite(top.logprob));
    }
    tops += '}';
  }
  fmt::format_to(std::back_inserter(out),
                 R"({{"tokens":[{}],"token_logprobs":[{}],"top_logprobs":[{}],"text_offset":[{}]}})", tokens,
                 values, tops, offsets);
}

}  // namespace cyllm::openai
