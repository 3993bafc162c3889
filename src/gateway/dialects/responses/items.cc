#include "gateway/dialects/responses/items.h"

#include <fmt/format.h>

namespace cyllm::responses {

namespace json = boost::json;
using dialect::Fields;
using dialect::TextOf;
using dialect::Wrong;

namespace {

Result<std::string> TextOfParts(const json::value& content, const std::string& param) {
  if (content.is_string()) return std::string(content.get_string());
  const json::array* parts = content.if_array();
  if (!parts) return Err(Wrong(param, "must be a string or an array of parts"));
  std::string text;
  for (size_t i = 0; i < parts->size(); ++i) {
    const std::string at = fmt::format("{}[{}]", param, i);
    const json::object* part = (*parts)[i].if_object();
    if (!part) return Err(Wrong(at, "must be an object"));
    const std::string_view type = TextOf(*part, "type");
    if (type == "input_image" || type == "input_file" || type == "input_audio")
      return Err(InvalidArgument(
          fmt::format("'{}': parts of type '{}' are not supported; text is.", at, type), at, "unsupported"));
    if (type != "input_text" && type != "output_text" && type != "text" && type != "refusal")
      return Err(Wrong(at + ".type", "must be input_text or output_text"));
    const char* key = type == "refusal" ? "refusal" : "text";
    const json::value* value = part->if_contains(key);
    if (!value || !value->is_string()) return Err(Wrong(at + "." + key, "must be a string"));
    text += value->get_string();
  }
  return text;
}

class Builder {
 public:
  Status Add(const json::value& value, const std::string& at) {
    const json::object* item = value.if_object();
    if (!item) return Wrong(at, "must be an object");
    const std::string_view type = TextOf(*item, "type");
    if (type == "message" || (type.empty() && item->contains("role"))) return AddMessage(*item, at);
    if (type == "function_call") return AddCall(*item, at);
    if (type == "function_call_output") return AddOutput(*item, at);
    if (type == "reasoning") return AddReasoning(*item);
    if (type == "item_reference")
      return InvalidArgument("References to items of earlier responses are not supported: nothing is stored.",
                             at, "unsupported");
    if (type.empty()) return Wrong(at + ".type", "is required");
    return Status::Ok();
  }

  json::array out;

 private:
  Status AddMessage(const json::object& item, const std::string& at) {
    const std::string_view role = TextOf(item, "role");
    if (role != "user" && role != "assistant" && role != "system" && role != "developer")
      return Wrong(at + ".role", "must be user, assistant, system or developer");
    const json::value* content = item.if_contains("content");
    if (!content) return Wrong(at + ".content", "is required");
    Result<std::string> text = TextOfParts(*content, at + ".content");
    if (!text) return text.error();
    json::object message = {{"role", role}, {"content", *text}};
    if (role == "assistant") TakeReasoning(message);
    out.push_back(std::move(message));
    return Status::Ok();
  }

  Status AddCall(const json::object& item, const std::string& at) {
    for (const char* key : {"call_id", "name"}) {
      if (TextOf(item, key).empty()) return Wrong(at + "." + key, "must be a string");
    }
    const json::value* arguments = item.if_contains("arguments");
    if (!arguments || !arguments->is_string()) return Wrong(at + ".arguments", "must be a string");
    if (out.empty() || TextOf(out.back().get_object(), "role") != "assistant") {
      json::object message = {{"role", "assistant"}, {"content", ""}};
      TakeReasoning(message);
      out.push_back(std::move(message));
    }
    json::value& calls = out.back().get_object()["tool_calls"];
    if (!calls.is_array()) calls.emplace_array();
    calls.get_array().push_back({{"id", TextOf(item, "call_id")},
                                 {"type", "function"},
                                 {"function", {{"name", TextOf(item, "name")}, {"arguments", *arguments}}}});
    return Status::Ok();
  }

  Status AddOutput(const json::object& item, const std::string& at) {
    if (TextOf(item, "call_id").empty()) return Wrong(at + ".call_id", "must be a string");
    const json::value* output = item.if_contains("output");
    if (!output) return Wrong(at + ".output", "is required");
    Result<std::string> text = TextOfParts(*output, at + ".output");
    if (!text) return text.error();
    out.push_back({{"role", "tool"}, {"tool_call_id", TextOf(item, "call_id")}, {"content", *text}});
    return Status::Ok();
  }

  Status AddReasoning(const json::object& item) {
    for (const char* key : {"content", "summary"}) {
      const json::value* parts = item.if_contains(key);
      if (!parts || !parts->is_array() || !reasoning_.empty()) continue;
      for (const json::value& part : parts->get_array()) {
        if (const json::object* object = part.if_object()) reasoning_ += TextOf(*object, "text");
      }
    }
    return Status::Ok();
  }

  void TakeReasoning(json::object& message) {
    if (!reasoning_.empty()) message["reasoning_content"] = std::exchange(reasoning_, {});
  }

  std::string reasoning_;  // of the next message of the assistant
};

}  // namespace

Result<json::array> MessagesOf(Fields& fields) {
  Builder builder;
  if (const auto text = fields.String("instructions"); text && !text->empty())
    builder.out.push_back({{"role", "system"}, {"content", *text}});
  const json::value* input = fields.Find("input");
  if (!input) return Err(Wrong("input", "is required"));
  if (input->is_string()) {
    builder.out.push_back({{"role", "user"}, {"content", input->get_string()}});
    return std::move(builder.out);
  }
  const json::array* items = input->if_array();
  if (!items || items->empty())
    return Err(Wrong("input", "must be a string or an array of items, not empty"));
  for (size_t i = 0; i < items->size(); ++i) {
    if (Status s = builder.Add((*items)[i], fmt::format("input[{}]", i)); !s.ok()) return Err(std::move(s));
  }
  if (builder.out.empty()) return Err(Wrong("input", "has no message"));
  return std::move(builder.out);
}

Result<json::array> ToolsOf(const json::array& tools) {
  json::array out;
  for (size_t i = 0; i < tools.size(); ++i) {
    const json::object* tool = tools[i].if_object();
    if (!tool) return Err(Wrong(fmt::format("tools[{}]", i), "must be an object"));
    if (TextOf(*tool, "type") != "function") continue;
    json::object function;
    for (const char* key : {"name", "description", "parameters", "strict"}) {
      const json::value* value = tool->if_contains(key);
      if (value && !value->is_null()) function[key] = *value;
    }
    out.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return out;
}

json::value ToolChoiceOf(const json::value& choice) {
  const json::object* object = choice.if_object();
  if (!object) return choice;
  const std::string_view type = TextOf(*object, "type");
  if (type == "function") return {{"type", "function"}, {"function", {{"name", TextOf(*object, "name")}}}};
  if (type != "allowed_tools") return "auto";
  json::array names;
  if (const json::value* tools = object->if_contains("tools"); tools && tools->is_array()) {
    for (const json::value& tool : tools->get_array()) {
      if (tool.is_object() && TextOf(tool.get_object(), "type") == "function")
        names.push_back({{"type", "function"}, {"function", {{"name", TextOf(tool.get_object(), "name")}}}});
    }
  }
  return {{"type", "allowed_tools"},
          {"allowed_tools", {{"mode", TextOf(*object, "mode")}, {"tools", names}}}};
}

}  // namespace cyllm::responses
