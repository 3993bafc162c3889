#include "gateway/dialects/ollama/ollama.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/sha.h>

#include <array>

#include "base/utf8.h"
#include "gateway/dialects/ollama/fields.h"

namespace cyllm::ollama {

namespace {

// The release whose API this is. Clients compare it with the oldest that they can use.
constexpr char kVersion[] = "0.12.6";

std::string Details(const ModelInfo& model) {
  return fmt::format(
      R"({{"parent_model":"","format":"gguf","family":"{0}","families":["{0}"],"parameter_size":"","quantization_level":""}})",
      JsonEscape(model.engine));
}

// Ollama's client cuts its first 12 digits off without a look; ours may be shorter, or not known yet.
std::string Digest(const ModelInfo& model) {
  const std::string text = model.id + '\0' + model.digest;
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return fmt::format("{:02x}", fmt::join(digest, ""));
}

// Without the closing brace.
std::string Entry(const ModelInfo& model) {
  const std::string id = JsonEscape(model.id);
  return fmt::format(R"({{"name":"{}","model":"{}","modified_at":"{}","size":0,"digest":"{}","details":{})",
                     id, id, Rfc3339(model.created), Digest(model), Details(model));
}

std::string Capabilities(uint32_t bits) {
  std::string out;
  const auto add = [&](uint32_t bit, const char* name) {
    if ((bits & bit) != 0) out += fmt::format(R"({}"{}")", out.empty() ? "" : ",", name);
  };
  add(kCapChat | kCapText, "completion");
  add(kCapTools, "tools");
  add(kCapInfill, "insert");
  add(kCapEmbed, "embedding");
  add(kCapVision, "vision");
  return out;
}

}  // namespace

std::string ErrorLine(const dialect::ApiError& error) {
  return fmt::format(R"({{"error":"{}"}})", JsonEscape(error.message));
}

const dialect::Dialect kDialect = {
    .stream_type = "application/x-ndjson",
    .ping = "",
    .error_body = [](dialect::ApiError& error, std::string_view) { return ErrorLine(error); },
    .needs_json_type = false,
};

std::string TagsBody(const Snapshot& snapshot) {
  std::string out = R"({"models":[)";
  for (size_t i = 0; i < snapshot.models.size(); ++i) out += (i ? "," : "") + Entry(snapshot.models[i]) + '}';
  return out + "]}";
}

std::string RunningBody(const Snapshot& snapshot) {
  std::string out = R"({"models":[)";
  bool first = true;
  for (const ModelInfo& model : snapshot.models) {
    if (model.state != ModelState::kReady) continue;
    fmt::format_to(std::back_inserter(out),
                   R"({}{},"expires_at":"9999-12-31T23:59:59Z","size_vram":0,"context_length":{}}})",
                   first ? "" : ",", Entry(model), model.max_model_len);
    first = false;
  }
  return out + "]}";
}

Result<std::string> ShowBody(const Snapshot& snapshot, std::string_view request) {
  Result<boost::json::object> object = dialect::ParseObject(request);
  if (!object) return Err(object.error());
  std::string_view name = dialect::TextOf(*object, "model");
  if (name.empty()) name = dialect::TextOf(*object, "name");
  if (name.empty()) return Err(InvalidArgument("'model' is required.", "model"));
  const ModelInfo* model = snapshot.Find(ModelId(std::string(name)));
  if (!model)
    return Err(MakeStatus(Code::kNotFound, fmt::format("model '{}' not found", name.substr(0, 200)),
                          "model_not_found", "model"));
  const std::string arch = JsonEscape(model->engine);
  return fmt::format(
      R"({{"modelfile":"","parameters":"","template":"","license":"","modified_at":"{}","details":{},)"
      R"("model_info":{{"general.architecture":"{}","general.basename":"{}","{}.context_length":{}}},"capabilities":[{}]}})",
      Rfc3339(model->created), Details(*model), arch, JsonEscape(model->id), arch, model->max_model_len,
      Capabilities(model->capabilities));
}

std::string VersionBody() { return fmt::format(R"({{"version":"{}"}})", kVersion); }

}  // namespace cyllm::ollama
