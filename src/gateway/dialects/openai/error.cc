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
  out += "}}";
  return out;
}

}  // namespace cyllm::openai
