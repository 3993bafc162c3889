// POST /api/chat and /api/generate.
#include <fmt/format.h>

#include "gateway/dialects/common/messages.h"
#include "gateway/dialects/ollama/fields.h"
#include "gateway/dialects/ollama/ollama.h"
#include "gateway/dialects/ollama/writer.h"

namespace cyllm::ollama {

namespace json = boost::json;
using dialect::Fields;
using dialect::TextOf;
using dialect::Wrong;

namespace {

// Ollama's calls have no ids and arguments as objects; engines get ids and text. A result belongs to the
// oldest call of its tool's name that has none, or else to the oldest at all.
class Calls {
 public:
  Status Number(json::object& message, const std::string& param) {
    json::value* calls = message.if_contains("tool_calls");
    if (!calls || calls->is_null()) return Status::Ok();
    if (!calls->is_array()) return Wrong(param + ".tool_calls", "must be an array");
    for (json::value& value : calls->get_array()) {
      json::object* call = value.if_object();
      json::value* function = call ? call->if_contains("function") : nullptr;
      if (!function || !function->is_object()) return Wrong(param + ".tool_calls", "must have functions");
      json::value& arguments = function->get_object()["arguments"];
      if (!arguments.is_string()) arguments = json::string(json::serialize(arguments));
      std::string id(TextOf(*call, "id"));
      if (id.empty()) id = fmt::format("call_{}", ++count_);
      (*call)["id"] = id;
      (*call)["type"] = "function";
      open_.emplace_back(std::move(id), std::string(TextOf(function->get_object(), "name")));
    }
    return Status::Ok();
  }

  void Answer(json::object& message) {
    if (!TextOf(message, "tool_call_id").empty()) return;
    const std::string_view name = TextOf(message, "tool_name");
    auto it = std::find_if(open_.begin(), open_.end(), [&](const auto& call) { return call.second == name; });
    if (it == open_.end()) it = open_.begin();
    message["tool_call_id"] = it == open_.end() ? std::string("call_0") : it->first;
    if (it != open_.end()) open_.erase(it);
  }

 private:
  size_t count_ = 0;
  std::vector<std::pair<std::string, std::string>> open_;  // id, name
};

Status RefuseImages(const json::object& object, const std::string& param) {
  const json::value* images = object.if_contains("images");
  if (!images || images->is_null() || (images->is_array() && images->get_array().empty()))
    return Status::Ok();
  return InvalidArgument("Images are not supported; text is.", param + "images", "unsupported");
}

Status ToOpenAi(json::array& messages) {
  Calls calls;
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string param = fmt::format("messages[{}]", i);
    json::object* message = messages[i].if_object();
    if (!message) return Wrong(param, "must be an object");
    if (Status s = RefuseImages(*message, param + "."); !s.ok()) return s;
    if (Status s = calls.Number(*message, param); !s.ok()) return s;
    if (TextOf(*message, "role") == "tool") calls.Answer(*message);
    if (json::value* thinking = message->if_contains("thinking")) {
      (*message)["reasoning_content"] = *thinking;
      message->erase("thinking");
    }
    message->erase("images");
    message->erase("tool_name");
  }
  return dialect::NormalizeMessages(messages);
}

// No text at all: Ollama loads the model then and says no more.
json::array JustLoad(dialect::Call& call, RequestFacts& facts, Shape& shape) {
  facts.max_tokens = 0;
  shape.load_only = true;
  call.stream = false;
  return {{{"role", "user"}, {"content", ""}}};
}

void Finish(dialect::Call& call, RequestFacts facts, PayloadParts parts, Shape shape) {
  shape.model = call.model;
  shape.stream = call.stream;
  call.id_prefix = "ollama-";
  call.writer = [shape = std::move(shape)](dialect::ResponseInfo info) -> std::unique_ptr<dialect::Writer> {
    return std::make_unique<LineWriter>(shape, std::move(info));
  };
  call.requests.push_back({std::move(facts), Payload::Of(std::move(parts))});
}

}  // namespace

Result<dialect::Call> ParseChat(std::string_view body, const dialect::Limits&) {
  Result<json::object> object = dialect::ParseObject(body);
  if (!object) return Err(object.error());
  Fields fields(*object);
  dialect::Call call;
  Shape shape;
  RequestFacts facts;
  PayloadParts parts;
  facts.kind = Kind::kChat;
  facts.needs = kCapChat;
  ReadModel(fields, call, facts);
  call.stream = fields.Bool("stream").value_or(true);
  ReadOptions(fields, facts, parts.sampling);
  ReadFormat(fields, facts, parts);
  ReadThink(fields, parts);
  if (Status s = dialect::PutTools(fields.Array("tools"), nullptr, facts, parts); !s.ok())
    fields.Fail(std::move(s));
  json::array* messages = fields.Array("messages");
  json::array load;
  if (!messages || messages->empty()) messages = &(load = JustLoad(call, facts, shape));
  if (Status s = ToOpenAi(*messages); !s.ok()) fields.Fail(std::move(s));
  if (!fields.ok()) return Err(fields.status());
  dialect::PutMessages(*messages, facts, parts);
  Finish(call, std::move(facts), std::move(parts), std::move(shape));
  return call;
}

Result<dialect::Call> ParseGenerate(std::string_view body, const dialect::Limits&) {
  Result<json::object> object = dialect::ParseObject(body);
  if (!object) return Err(object.error());
  Fields fields(*object);
  dialect::Call call;
  Shape shape;
  shape.chat = false;
  RequestFacts facts;
  PayloadParts parts;
  ReadModel(fields, call, facts);
  call.stream = fields.Bool("stream").value_or(true);
  ReadOptions(fields, facts, parts.sampling);
  ReadFormat(fields, facts, parts);
  ReadThink(fields, parts);
  if (Status s = RefuseImages(*object, ""); !s.ok()) fields.Fail(std::move(s));
  std::string prompt = fields.String("prompt").value_or("");
  const std::string system = fields.String("system").value_or("");
  parts.suffix = fields.String("suffix").value_or("");
  const bool raw = fields.Bool("raw").value_or(false) || !parts.suffix.empty();
  if (!fields.ok()) return Err(fields.status());
  if (raw && !prompt.empty()) {
    facts.kind = Kind::kText;
    facts.needs |= kCapText | (parts.suffix.empty() ? 0u : static_cast<uint32_t>(kCapInfill));
    facts.prompt_tokens_estimate = dialect::EstimateTokens(prompt.size());
    parts.prompt = std::move(prompt);
  } else {
    facts.kind = Kind::kChat;
    facts.needs |= kCapChat;
    parts.suffix.clear();
    json::array messages;
    if (prompt.empty()) {
      messages = JustLoad(call, facts, shape);
    } else {
      if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
      messages.push_back({{"role", "user"}, {"content", prompt}});
    }
    dialect::PutMessages(messages, facts, parts);
  }
  Finish(call, std::move(facts), std::move(parts), std::move(shape));
  return call;
}

}  // namespace cyllm::ollama
