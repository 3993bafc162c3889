#include "gateway/dialects/openai/openai.h"

#include <fmt/format.h>

#include "base/utf8.h"
#include "gateway/dialects/openai/error.h"

namespace cyllm::openai {

namespace {

std::string ModelJson(const ModelInfo& model) {
  std::string json = fmt::format(R"({{"id":"{}","object":"model","created":{},"owned_by":"cy-llm")",
                                 JsonEscape(model.id), model.created);
  if (!model.alias_of.empty()) json += fmt::format(R"(,"root":"{}")", JsonEscape(model.alias_of));
  if (!model.adapter.empty()) json += fmt::format(R"(,"parent":"{}")", JsonEscape(model.alias_of));
  if (model.max_model_len > 0) json += fmt::format(R"(,"max_model_len":{})", model.max_model_len);
  return json + "}";
}

}  // namespace

const dialect::Dialect kDialect = {
    .stream_type = "text/event-stream; charset=utf-8",
    .ping = ": ping\n\n",
    .error_body = [](dialect::ApiError& error, std::string_view) { return ErrorBody(error); },
};

std::string ModelsBody(const Snapshot& snapshot) {
  std::string body = R"({"object":"list","data":[)";
  for (size_t i = 0; i < snapshot.models.size(); ++i) {
    if (i) body += ',';
    body += ModelJson(snapshot.models[i]);
  }
  return body + "]}";
}

Result<std::string> ModelBody(const Snapshot& snapshot, const std::string& id) {
  if (const ModelInfo* model = snapshot.Find(id)) return ModelJson(*model);
  return Err(MakeStatus(Code::kNotFound, "The model '" + id.substr(0, 200) + "' does not exist.",
                        "model_not_found", "model"));
}

}  // namespace cyllm::openai
