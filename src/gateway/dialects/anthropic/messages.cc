#include "gateway/dialects/anthropic/messages.h"

#include <fmt/format.h>

namespace cyllm::anthropic {

namespace json = boost::json;
using dialect::Fields;
using dialect::TextOf;
using dialect::Wrong;

namespace {

// Claude Code's first line, another one with every request: no prefix would ever be cached.
std::string_view WithoutBillingLine(std::string_view text) {
  if (!text.starts_with("x-anthropic-billing-header:")) return text;
  const size_t end = text.find('\n');
  return end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
}

// A string, or an array of text blocks.
Result<std::string> PlainText(const json::value& content, const std::string& param) {
  if (content.is_string()) return std::string(content.get_string());
  const json::array* blocks = content.if_array();
  if (!blocks) return Err(Wrong(param, "must be a string or an array of blocks"));
  std::string text;
  for (size_t i = 0; i < blocks->size(); ++i) {
    const std::string at = fmt::format("{}[{}]", param, i);
    const json::object* block = (*blocks)[i].if_object();
    if (!block || TextOf(*block, "type") != "text")
      return Err(InvalidArgument(fmt::format("'{}': only blocks of text are supported here.", at), at,
                                 "unsupported"));
    const json::value* value = block->if_contains("text");
    if (!value || !value->is_string()) return Err(Wrong(at + ".text", "must be a string"));
    text += value->get_string();
  }
  return text;
}

// What the blocks of one message add up to.
struct Parts {
  std::string text, thinking;
  bool has_text = false;
  json::array calls, results;  // OpenAI's tool_calls; messages of role tool
};

Status ReadToolUse(const json::object& block, const std::string& at, Parts& parts) {
  for (const char* key : {"id", "name"}) {
    if (TextOf(block, key).empty()) return Wrong(at + "." + key, "must be a string");
  }
  const json::value* input = block.if_contains("input");
  if (input && !input->is_object()) return Wrong(at + ".input", "must be an object");
  parts.calls.push_back({{"id", TextOf(block, "id")},
                         {"type", "function"},
                         {"function",
                          {{"name", TextOf(block, "name")},
                           {"arguments", input ? json::serialize(*input) : std::string("{}")}}}});
  return Status::Ok();
}

Status ReadToolResult(const json::object& block, const std::string& at, Parts& parts) {
  if (TextOf(block, "tool_use_id").empty()) return Wrong(at + ".tool_use_id", "must be a string");
  const json::value* content = block.if_contains("content");
  Result<std::string> text = content && !content->is_null() ? PlainText(*content, at + ".content")
                                                            : Result<std::string>(std::string());
  if (!text) return text.error();
  parts.results.push_back(
      {{"role", "tool"}, {"tool_call_id", TextOf(block, "tool_use_id")}, {"content", *text}});
  return Status::Ok();
}

Status ReadBlock(const json::value& value, bool assistant, const std::string& at, Parts& parts) {
  const json::object* block = value.if_object();
  if (!block) return Wrong(at, "must be an object");
  const std::string_view type = TextOf(*block, "type");
  if (type == "text") {
    const json::value* text = block->if_contains("text");
    if (!text || !text->is_string()) return Wrong(at + ".text", "must be a string");
    parts.text += text->get_string();
    parts.has_text = true;
    return Status::Ok();
  }
  if (assistant && type == "thinking") {
    parts.thinking += TextOf(*block, "thinking");
    return Status::Ok();
  }
  if (assistant && type == "redacted_thinking") return Status::Ok();
  if (assistant && type == "tool_use") return ReadToolUse(*block, at, parts);
  if (!assistant && type == "tool_result") return ReadToolResult(*block, at, parts);
  if (type == "image" || type == "document")
    return InvalidArgument(fmt::format("'{}': blocks of type '{}' are not supported; text is.", at, type), at,
                           "unsupported");
  return Wrong(at + ".type", "is not a kind of block that this role may have");
}

Status AddMessage(const json::value& value, const std::string& param, json::array& out) {
  const json::object* message = value.if_object();
  if (!message) return Wrong(param, "must be an object");
  const std::string_view role = TextOf(*message, "role");
  if (role != "user" && role != "assistant" && role != "system")
    return Wrong(param + ".role", "must be user or assistant");
  const json::value* content = message->if_contains("content");
  if (content && content->is_string()) {
    out.push_back({{"role", role}, {"content", content->get_string()}});
    return Status::Ok();
  }
  const json::array* blocks = content ? content->if_array() : nullptr;
  if (!blocks) return Wrong(param + ".content", "must be a string or an array of blocks");
  const bool assistant = role == "assistant";
  if (blocks->empty() && !assistant) return Wrong(param + ".content", "must not be empty");
  Parts parts;
  for (size_t i = 0; i < blocks->size(); ++i) {
    if (Status s = ReadBlock((*blocks)[i], assistant, fmt::format("{}.content[{}]", param, i), parts);
        !s.ok())
      return s;
  }
  for (json::value& result : parts.results) out.push_back(std::move(result));
  if (!assistant && !parts.has_text) return Status::Ok();
  json::object one = {{"role", role}, {"content", parts.text}};
  if (!parts.thinking.empty()) one["reasoning_content"] = parts.thinking;
  if (!parts.calls.empty()) one["tool_calls"] = std::move(parts.calls);
  out.push_back(std::move(one));
  return Status::Ok();
}

Status AddSystem(const json::value& system, json::array& out) {
  std::string text;
  if (const json::array* blocks = system.if_array()) {
    for (size_t i = 0; i < blocks->size(); ++i) {
      const json::object* block = (*blocks)[i].if_object();
      if (!block || TextOf(*block, "type") != "text")
        return Wrong("system", "must be a string or blocks of text");
      const std::string_view part = WithoutBillingLine(TextOf(*block, "text"));
      if (!text.empty() && !part.empty()) text += "\n\n";
      text += part;
    }
  } else if (system.is_string()) {
    text = WithoutBillingLine(system.get_string());
  } else {
    return Wrong("system", "must be a string or blocks of text");
  }
  if (!text.empty()) out.push_back({{"role", "system"}, {"content", text}});
  return Status::Ok();
}

}  // namespace

Result<json::array> MessagesOf(Fields& fields) {
  json::array out;
  if (const json::value* system = fields.Find("system")) {
    if (Status s = AddSystem(*system, out); !s.ok()) return Err(std::move(s));
  }
  const json::array* messages = fields.Array("messages");
  if (!messages) return Err(fields.ok() ? Wrong("messages", "is required") : fields.status());
  if (messages->empty()) return Err(Wrong("messages", "must not be empty"));
  for (size_t i = 0; i < messages->size(); ++i) {
    if (Status s = AddMessage((*messages)[i], fmt::format("messages[{}]", i), out); !s.ok())
      return Err(std::move(s));
  }
  return out;
}

Result<json::array> ToolsOf(const json::array& tools) {
  json::array out;
  for (size_t i = 0; i < tools.size(); ++i) {
    const json::object* tool = tools[i].if_object();
    if (!tool) return Err(Wrong(fmt::format("tools[{}]", i), "must be an object"));
    const std::string_view type = TextOf(*tool, "type");
    if (!type.empty() && type != "custom") continue;
    json::object function = {{"name", TextOf(*tool, "name")}};
    if (const std::string_view text = TextOf(*tool, "description"); !text.empty())
      function["description"] = text;
    if (const json::value* schema = tool->if_contains("input_schema")) function["parameters"] = *schema;
    out.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return out;
}

Result<json::value> ToolChoiceOf(const json::object& choice) {
  const std::string_view type = TextOf(choice, "type");
  if (type == "auto" || type == "none") return json::value(json::string(type));
  if (type == "any") return json::value("required");
  if (type == "tool")
    return json::value{{"type", "function"}, {"function", {{"name", TextOf(choice, "name")}}}};
  return Err(Wrong("tool_choice.type", "must be auto, any, tool or none"));
}

}  // namespace cyllm::anthropic
