#include "gateway/dialects/common/messages.h"

#include <fmt/format.h>

#include <algorithm>

#include "gateway/dialects/common/fields.h"

namespace cyllm::dialect {

namespace json = boost::json;

namespace {

// Text parts only: images and audio need a model that takes them.
Status JoinParts(json::value& content, const std::string& param) {
  if (content.is_string()) return Status::Ok();
  const json::array* parts = content.if_array();
  if (!parts) return Wrong(param, "must be a string or an array of parts");
  if (parts->empty()) return Wrong(param, "must not be an empty array");
  json::string text(content.storage());
  for (size_t i = 0; i < parts->size(); ++i) {
    const std::string at = fmt::format("{}[{}]", param, i);
    const json::object* part = (*parts)[i].if_object();
    if (!part) return Wrong(at, "must be an object");
    const std::string_view type = TextOf(*part, "type");
    if (type == "image_url" || type == "input_audio" || type == "file" || type == "video_url")
      return InvalidArgument(fmt::format("'{}': parts of type '{}' are not supported; text is.", at, type),
                             at, "unsupported");
    const bool refusal = type == "refusal";
    if (type != "text" && !refusal) return Wrong(at + ".type", "must be 'text'");
    const json::value* value = part->if_contains(refusal ? "refusal" : "text");
    if (!value || !value->is_string())
      return Wrong(at + (refusal ? ".refusal" : ".text"), "must be a string");
    text += value->get_string();
  }
  content = std::move(text);
  return Status::Ok();
}

// Templates and model servers that read arguments refuse a whole conversation for a call that was cut off or
// never was JSON. The model sees what it wrote, in an object.
void MendArguments(json::string& arguments) {
  json::error_code error;
  json::parse_options options;
  options.max_depth = 512;  // what is deeper is the engine's to refuse
  const json::value value = json::parse(arguments, error, {}, options);
  if (error == json::error::too_deep || (!error && value.is_object())) return;
  if (arguments.find_first_not_of(" \t\r\n") == json::string::npos) {
    arguments = "{}";
  } else {
    arguments = json::serialize(json::object{{"INVALID_JSON", arguments}});
  }
}

// Of an assistant's message in the history.
Status NormalizeCalls(json::array& calls, const std::string& param) {
  for (size_t i = 0; i < calls.size(); ++i) {
    const std::string at = fmt::format("{}[{}]", param, i);
    json::object* call = calls[i].if_object();
    if (!call) return Wrong(at, "must be an object");
    json::value* function = call->if_contains("function");
    if (!function || !function->is_object()) return Wrong(at + ".function", "must be an object");
    for (const char* key : {"name", "arguments"}) {
      const json::value* text = function->get_object().if_contains(key);
      if (!text || !text->is_string()) return Wrong(at + ".function." + key, "must be a string");
    }
    MendArguments(function->get_object()["arguments"].get_string());
  }
  return Status::Ok();
}

Status NormalizeRole(json::object& message, const std::string& param) {
  json::value* role = message.if_contains("role");
  const std::string_view name =
      role && role->is_string() ? std::string_view(role->get_string()) : std::string_view();
  if (name == "developer") {
    *role = "system";
  } else if (name == "function") {
    *role = "tool";
  } else if (name != "system" && name != "user" && name != "assistant" && name != "tool") {
    return Wrong(param + ".role", "must be one of system, developer, user, assistant, tool");
  }
  return Status::Ok();
}

Status NormalizeMessage(json::value& value, const std::string& param) {
  json::object* message = value.if_object();
  if (!message) return Wrong(param, "must be an object");
  if (Status status = NormalizeRole(*message, param); !status.ok()) return status;
  const bool assistant = TextOf(*message, "role") == "assistant";
  for (const char* key : {"tool_calls", "name", "tool_call_id", "reasoning_content"}) {
    const json::value* field = message->if_contains(key);
    if (field && field->is_null()) message->erase(key);
  }
  for (const char* key : {"name", "tool_call_id", "reasoning_content"}) {
    const json::value* field = message->if_contains(key);
    if (field && !field->is_string()) return Wrong(param + "." + key, "must be a string");
  }
  if (json::value* calls = message->if_contains("tool_calls")) {
    if (!calls->is_array()) return Wrong(param + ".tool_calls", "must be an array");
    if (Status status = NormalizeCalls(calls->get_array(), param + ".tool_calls"); !status.ok())
      return status;
    if (calls->get_array().empty()) message->erase("tool_calls");
  }
  json::value* content = message->if_contains("content");
  if (content && !content->is_null()) return JoinParts(*content, param + ".content");
  if (!assistant) return Wrong(param + ".content", "is required");
  (*message)["content"] = "";
  return Status::Ok();
}

// Several at the front become one: many templates know one only.
void JoinSystem(json::array& messages) {
  size_t leading = 0;
  while (leading < messages.size() && TextOf(messages[leading].get_object(), "role") == "system") ++leading;
  if (leading < 2) return;
  json::string& text = messages[0].get_object()["content"].get_string();
  for (size_t i = 1; i < leading; ++i) {
    text += "\n\n";
    text += messages[i].get_object()["content"].get_string();
  }
  messages.erase(messages.begin() + 1, messages.begin() + static_cast<std::ptrdiff_t>(leading));
}

bool IsName(std::string_view name) {
  return !name.empty() && name.size() <= 128 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-';
  });
}

// As json::serialize, straight into a text that has room for it from the start.
std::string Serialize(const json::array& messages) {
  size_t room = 1024;
  for (const json::value& message : messages) {
    const size_t content = TextOf(message.get_object(), "content").size();
    room += content + content / 8 + 256;
  }
  std::string out;
  out.reserve(room);
  json::serializer serializer;
  serializer.reset(&messages);
  while (!serializer.done()) {
    const size_t before = out.size();
    const size_t space = std::max<size_t>(out.capacity() - before, 4096);
    out.resize_and_overwrite(before + space, [&](char* data, size_t) {
      return before + serializer.read(data + before, space).size();
    });
  }
  return out;
}

std::string_view FunctionName(const json::value& tool) {
  const json::object* object = tool.if_object();
  const json::value* function = object ? object->if_contains("function") : nullptr;
  return function && function->is_object() ? TextOf(function->get_object(), "name") : std::string_view();
}

bool Names(const json::array& tools, std::string_view name) {
  return std::any_of(tools.begin(), tools.end(),
                     [&](const json::value& tool) { return FunctionName(tool) == name; });
}

const json::object* AllowedTools(const json::value& choice) {
  const json::object* object = choice.if_object();
  if (!object || TextOf(*object, "type") != "allowed_tools") return nullptr;
  const json::value* allowed = object->if_contains("allowed_tools");
  return allowed && allowed->is_object() ? &allowed->get_object() : nullptr;
}

Status CheckAllowedTools(const json::object& allowed, const json::array* tools) {
  const std::string_view mode = TextOf(allowed, "mode");
  const json::value* names = allowed.if_contains("tools");
  if ((mode != "auto" && mode != "required") || !names || !names->is_array())
    return Wrong("tool_choice", "must have a mode of auto or required, and tools");
  for (const json::value& tool : names->get_array()) {
    if (!tools || FunctionName(tool).empty() || !Names(*tools, FunctionName(tool)))
      return Wrong("tool_choice", "names a function that is not among the tools");
  }
  return Status::Ok();
}

}  // namespace

Status NormalizeMessages(json::array& messages) {
  if (messages.empty()) return Wrong("messages", "must not be empty");
  for (size_t i = 0; i < messages.size(); ++i) {
    if (Status status = NormalizeMessage(messages[i], fmt::format("messages[{}]", i)); !status.ok())
      return status;
  }
  const size_t size = messages.size();
  const auto assistant = [&](size_t i) { return TextOf(messages[i].get_object(), "role") == "assistant"; };
  if (size >= 2 && assistant(size - 1) && assistant(size - 2))
    return Wrong("messages", "must not end with two messages of the assistant");
  JoinSystem(messages);
  return Status::Ok();
}

Status CheckTools(const json::array& tools) {
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string at = fmt::format("tools[{}]", i);
    const json::object* tool = tools[i].if_object();
    if (!tool || TextOf(*tool, "type") != "function") return Wrong(at + ".type", "must be 'function'");
    const json::value* function = tool->if_contains("function");
    if (!function || !function->is_object()) return Wrong(at + ".function", "must be an object");
    if (!IsName(TextOf(function->get_object(), "name")))
      return Wrong(at + ".function.name", "must be 1 to 128 letters, digits, '_' or '-'");
    const json::value* parameters = function->get_object().if_contains("parameters");
    if (parameters && !parameters->is_object() && !parameters->is_null())
      return Wrong(at + ".function.parameters", "must be an object (a JSON schema)");
  }
  return Status::Ok();
}

Status CheckToolChoice(const json::value& choice, const json::array* tools) {
  const bool have = tools && !tools->empty();
  if (choice.is_string()) {
    const std::string_view text = choice.get_string();
    if (text == "none" || text == "auto") return Status::Ok();
    if (text != "required") return Wrong("tool_choice", "must be none, auto, required or a function");
    return have ? Status::Ok() : Wrong("tool_choice", "is 'required', but there are no tools");
  }
  if (const json::object* allowed = AllowedTools(choice)) return CheckAllowedTools(*allowed, tools);
  const json::object* object = choice.if_object();
  const json::value* function =
      object && TextOf(*object, "type") == "function" ? object->if_contains("function") : nullptr;
  if (!function || !function->is_object())
    return Wrong("tool_choice", "must be none, auto, required or a function");
  if (have && Names(*tools, FunctionName(choice))) return Status::Ok();
  return Wrong("tool_choice", "names a function that is not among the tools");
}

Status PutTools(const json::array* tools, const json::value* choice, RequestFacts& facts,
                PayloadParts& parts) {
  if (tools) {
    if (Status status = CheckTools(*tools); !status.ok()) return status;
  }
  if (choice) {
    if (Status status = CheckToolChoice(*choice, tools); !status.ok()) return status;
  }
  const bool none = choice && choice->is_string() && choice->get_string() == "none";
  if (!tools || tools->empty() || none) return Status::Ok();
  const json::object* allowed = choice ? AllowedTools(*choice) : nullptr;
  if (allowed) {
    json::array left;
    for (const json::value& tool : *tools) {
      if (Names(allowed->at("tools").get_array(), FunctionName(tool))) left.push_back(tool);
    }
    if (left.empty()) return Status::Ok();
    parts.tools_json = json::serialize(left);
    parts.tool_choice_json = json::serialize(allowed->at("mode"));
  } else {
    parts.tools_json = json::serialize(*tools);
    if (choice) parts.tool_choice_json = json::serialize(*choice);
  }
  facts.needs |= kCapTools;
  return Status::Ok();
}

Status CheckResponseFormat(const json::object& format) {
  const std::string_view type = TextOf(format, "type");
  if (type == "json_object") {
    const json::value* schema = format.if_contains("schema");
    return !schema || schema->is_object() || schema->is_null()
               ? Status::Ok()
               : Wrong("response_format.schema", "must be an object");
  }
  if (type == "text") return Status::Ok();
  if (type == "grammar") {
    return TextOf(format, "grammar").empty() ? Wrong("response_format.grammar", "must be a grammar in GBNF")
                                             : Status::Ok();
  }
  if (type != "json_schema")
    return Wrong("response_format.type", "must be text, json_object, json_schema or grammar");
  const json::value* outer = format.if_contains("json_schema");
  if (!outer || !outer->is_object()) return Wrong("response_format.json_schema", "must be an object");
  const json::value* schema = outer->get_object().if_contains("schema");
  if (!schema || !schema->is_object())
    return Wrong("response_format.json_schema.schema", "must be an object");
  return Status::Ok();
}

Status PutResponseFormat(const json::object& format, RequestFacts& facts, PayloadParts& parts) {
  if (Status status = CheckResponseFormat(format); !status.ok()) return status;
  if (TextOf(format, "type") == "text") return Status::Ok();
  parts.response_format_json = json::serialize(format);
  facts.needs |= kCapJsonSchema;
  return Status::Ok();
}

void PutMessages(const json::array& messages, RequestFacts& facts, PayloadParts& parts) {
  parts.messages_json = Serialize(messages);
  facts.prompt_tokens_estimate = EstimateTokens(parts.messages_json.size());
}

uint32_t EstimateTokens(size_t bytes) {
  return static_cast<uint32_t>(std::min<size_t>(bytes / 4 + 1, 1u << 30));
}

}  // namespace cyllm::dialect
