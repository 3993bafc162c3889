#include "gateway/dialects/openai/error.h"

#include "base/utf8.h"

namespace cyllm::openai {

namespace {

void AppendStringOrNull(std::string& out, std::string_view text) {
  if (text.empty()) {
    out += "null";
    return;
  }
  out += '"';
  AppendJsonEscaped(out, text);
  out += '"';
}

}  // namespace

std::string ErrorBody(const dialect::ApiError& error) {
  std::string out = R"({"error":{"message":")";
  AppendJsonEscaped(out, error.message);
  out += R"(","type":")";
  AppendJsonEscaped(out, error.type);
  out += R"(","param":)";
  AppendStringOrNull(out, error.param);
  out += R"(,"code":)";
  AppendStringOrNull(out, error.code);
  if (error.prompt_tokens > 0) out += ",\"n_prompt_tokens\":" + std::to_string(error.prompt_tokens);
  if (error.context_length > 0) out += ",\"n_ctx\":" + std::to_string(error.context_length);
  out += "}}";
  return out;
}

}  // namespace cyllm::openai
