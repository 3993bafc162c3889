#include "gateway/dialects/openai/messages.h"

#include <fmt/format.h>

#include <algorithm>

namespace cyllm::openai {

namespace json = boost::json;

namespace {

constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool", "function"};

bool IsName(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-';
  });
}

std::unexpected<Status> Wrong(const std::string& param, std::string_view what) {
  return Err(InvalidArgument(fmt::format("'{}' {}.", param, what), param));
}

std::string_view TextOf(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
}

// Text parts only: images and audio need a model that takes them.
Result<json::value> CheckContent(const json::value& content, const std::string& param) {
  if (content.is_string()) return content;
  const json::array* parts = content.if_array();
  if (!parts) return Wrong(param, "must be a string or an array of parts");
  if (parts->empty()) return Wrong(param, "must not be an empty array");
  std::string text;
  for (size_t i = 0; i < parts->size(); ++i) {
    const std::string at = fmt::format("{}[{}]", param, i);
    const json::object* part = (*parts)[i].if_object();
    if (!part) return Wrong(at, "must be an object");
    const std::string_view type = TextOf(*part, "type");
    if (type == "image_url" || type == "input_audio" || type == "file" || type == "video_url")
      return Err(InvalidArgument(
          fmt::format("'{}': parts of type '{}' are not supported; text is.", at, type), at, "unsupported"));
    const bool refusal = type == "refusal";
    if (type != "text" && !refusal) return Wrong(at + ".type", "must be 'text'");
    const json::value* value = part->if_contains(refusal ? "refusal" : "text");
    if (!value || !value->is_string())
      return Wrong(at + (refusal ? ".refusal" : ".text"), "must be a string");
    text += std::string_view(value->get_string());
  }
  return json::value(text);
}

// Of an assistant's message in the history.
Status CheckCalls(const json::array& calls, const std::string& param) {
  for (size_t i = 0; i < calls.size(); ++i) {
    const std::string at = fmt::format("{}[{}]", param, i);
    const json::object* call = calls[i].if_object();
    if (!call) return Wrong(at, "must be an object").error();
    const json::value* function = call->if_contains("function");
    if (!function || !function->is_object()) return Wrong(at + ".function", "must be an object").error();
    for (const char* key : {"name", "arguments"}) {
      const json::value* text = function->get_object().if_contains(key);
      if (!text || !text->is_string()) return Wrong(at + ".function." + key, "must be a string").error();
    }
  }
  return Status::Ok();
}

Result<json::object> CheckMessage(const json::value& value, const std::string& param) {
  const json::object* in = value.if_object();
  if (!in) return Wrong(param, "must be an object");
  const json::value* role = in->if_contains("role");
  if (!role || !role->is_string() ||
      std::find(std::begin(kRoles), std::end(kRoles), role->get_string()) == std::end(kRoles))
    return Wrong(param + ".role", "must be one of system, developer, user, assistant, tool");
  json::object out = *in;
  const json::value* calls = in->if_contains("tool_calls");
  if (calls && calls->is_null()) {
    out.erase("tool_calls");
    calls = nullptr;
  }
  if (calls && !calls->is_array()) return Wrong(param + ".tool_calls", "must be an array");
  if (calls) {
    if (Status status = CheckCalls(calls->get_array(), param + ".tool_calls"); !status.ok())
      return Err(status);
  }
  const json::value* content = in->if_contains("content");
  if (!content || content->is_null()) {
    if (role->get_string() != "assistant") return Wrong(param + ".content", "is required");
    out["content"] = "";
    return out;
  }
  Result<json::value> checked = CheckContent(*content, param + ".content");
  if (!checked) return Err(checked.error());
  out["content"] = std::move(*checked);
  return out;
}

}  // namespace

Result<json::array> CheckMessages(const json::array& messages) {
  if (messages.empty()) return Wrong("messages", "must not be empty");
  json::array out;
  out.reserve(messages.size());
  for (size_t i = 0; i < messages.size(); ++i) {
    Result<json::object> message = CheckMessage(messages[i], fmt::format("messages[{}]", i));
    if (!message) return Err(message.error());
    out.emplace_back(std::move(*message));
  }
  return out;
}

Status CheckTools(const json::array& tools) {
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string at = fmt::format("tools[{}]", i);
    const json::object* tool = tools[i].if_object();
    if (!tool || TextOf(*tool, "type") != "function")
      return Wrong(at + ".type", "must be 'function'").error();
    const json::value* function = tool->if_contains("function");
    if (!function || !function->is_object()) return Wrong(at + ".function", "must be an object").error();
    if (!IsName(TextOf(function->get_object(), "name")))
      return Wrong(at + ".function.name", "must be 1 to 64 letters, digits, '_' or '-'").error();
    const json::value* parameters = function->get_object().if_contains("parameters");
    if (parameters && !parameters->is_object() && !parameters->is_null())
      return Wrong(at + ".function.parameters", "must be an object (a JSON schema)").error();
  }
  return Status::Ok();
}

Status CheckToolChoice(const json::value& choice, const json::array* tools) {
  const bool have = tools && !tools->empty();
  if (choice.is_string()) {
    const std::string_view text = choice.get_string();
    if (text == "none" || text == "auto") return Status::Ok();
    if (text != "required") return Wrong("tool_choice", "must be none, auto, required or a function").error();
    return have ? Status::Ok() : Wrong("tool_choice", "is 'required', but there are no tools").error();
  }
  const json::object* object = choice.if_object();
  const json::value* function =
      object && TextOf(*object, "type") == "function" ? object->if_contains("function") : nullptr;
  if (!function || !function->is_object())
    return Wrong("tool_choice", "must be none, auto, required or a function").error();
  const std::string_view name = TextOf(function->get_object(), "name");
  if (have) {
    for (const json::value& tool : *tools) {
      if (TextOf(tool.get_object().at("function").get_object(), "name") == name) return Status::Ok();
    }
  }
  return Wrong("tool_choice", "names a function that is not among the tools").error();
}

Status CheckResponseFormat(const json::object& format) {
  const std::string_view type = TextOf(format, "type");
  if (type == "text" || type == "json_object") return Status::Ok();
  if (type != "json_schema")
    return Wrong("response_format.type", "must be text, json_object or json_schema").error();
  const json::value* outer = format.if_contains("json_schema");
  if (!outer || !outer->is_object()) return Wrong("response_format.json_schema", "must be an object").error();
  const json::value* schema = outer->get_object().if_contains("schema");
  if (!schema || !schema->is_object())
    return Wrong("response_format.json_schema.schema", "must be an object").error();
  return Status::Ok();
}

}  // namespace cyllm::openai
