#include "llama_cpp/own_tools.h"

#include <algorithm>
#include <boost/json.hpp>
#include <utility>

#include "llama_cpp/schema_grammar.h"

namespace cyllm::llama {

namespace json = boost::json;

namespace {

bool IsName(std::string_view name) {
  return !name.empty() && name.size() <= 128 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  });
}

std::optional<json::value> Parse(std::string_view text) {
  json::error_code failed;
  json::parse_options options;
  options.max_depth = 128;
  json::value value = json::parse(text, failed, {}, options);
  if (failed) return std::nullopt;
  return value;
}

std::string TextOf(const json::object& object, std::string_view key) {
  const json::value* v = object.if_contains(key);
  return v && v->is_string() ? std::string(v->get_string()) : std::string();
}

// The text of a message's content: a string, or the text parts of an array.
std::string ContentOf(const json::object& message) {
  const json::value* content = message.if_contains("content");
  if (!content || !content->is_array()) return TextOf(message, "content");
  std::string out;
  for (const json::value& part : content->get_array())
    if (part.is_object()) out += TextOf(part.get_object(), "text");
  return out;
}

std::string Describe(const std::vector<Tool>& tools, bool forced) {
  std::string out = "You can call these functions, each described by a JSON object:\n";
  for (const Tool& tool : tools) {
    json::object o{{"name", tool.name}};
    if (!tool.description.empty()) o["description"] = tool.description;
    if (const auto parameters = Parse(tool.parameters)) o["parameters"] = *parameters;
    out += json::serialize(o) + "\n";
  }
  out += "A call is written exactly like this:\n" + std::string(kToolCallOpen) +
         "\n{\"name\": \"the function\", \"arguments\": {its arguments}}\n" + std::string(kToolCallClose) +
         "\n";
  return out + (forced ? "Call a function now." : "Call one when it helps; otherwise answer in words.");
}

std::string CallsOf(const json::object& message) {
  std::string out;
  const json::value* calls = message.if_contains("tool_calls");
  if (!calls || !calls->is_array()) return out;
  for (const json::value& call : calls->get_array()) {
    const json::value* function = call.is_object() ? call.get_object().if_contains("function") : nullptr;
    if (!function || !function->is_object()) continue;
    const json::object& f = function->get_object();
    std::string arguments = TextOf(f, "arguments");
    if (const json::value* v = f.if_contains("arguments"); v && v->is_object())
      arguments = json::serialize(*v);
    if (arguments.empty()) arguments = "{}";
    if (!out.empty()) out += "\n";
    out += std::string(kToolCallOpen) + "\n{\"name\": " + json::serialize(json::string(TextOf(f, "name"))) +
           ", \"arguments\": " + arguments + "}\n" + std::string(kToolCallClose);
  }
  return out;
}

}  // namespace

bool ReadTools(std::string_view tools_json, std::vector<Tool>* out, std::string* error) {
  if (tools_json.empty()) return true;
  const std::optional<json::value> tools = Parse(tools_json);
  if (!tools || !tools->is_array()) {
    *error = "tools must be an array";
    return false;
  }
  for (const json::value& v : tools->get_array()) {
    const json::value* f = v.is_object() ? v.get_object().if_contains("function") : nullptr;
    if (!f || !f->is_object()) {
      *error = "tools: only tools of type 'function' are offered";
      return false;
    }
    const json::object& function = f->get_object();
    Tool tool{TextOf(function, "name"), TextOf(function, "description"), {}};
    if (!IsName(tool.name)) {
      *error = "tools: a function's name must be of letters, digits, '_', '-' and '.'";
      return false;
    }
    const json::value* parameters = function.if_contains("parameters");
    if (parameters && parameters->is_object() && !parameters->get_object().empty()) {
      json::object schema = parameters->get_object();
      const json::value& type = schema.emplace("type", "object").first->value();
      if (!type.is_string() || type.get_string() != "object") {
        *error = "tools: the parameters of '" + tool.name + "' must be of type 'object'";
        return false;
      }
      tool.parameters = json::serialize(schema);
    }
    out->push_back(std::move(tool));
  }
  return true;
}

bool ReadToolChoice(std::string_view choice_json, ToolChoice* out, std::string* error) {
  if (choice_json.empty()) return true;
  const std::optional<json::value> choice = Parse(choice_json);
  if (choice && choice->is_string()) {
    const std::string_view word = choice->get_string();
    for (const auto& [name, kind] : {std::pair{"none", ToolChoice::Kind::kNone},
                                     {"auto", ToolChoice::Kind::kAuto},
                                     {"required", ToolChoice::Kind::kRequired}}) {
      if (word != name) continue;
      out->kind = kind;
      return true;
    }
  }
  if (choice && choice->is_object()) {
    const json::value* f = choice->get_object().if_contains("function");
    if (f && f->is_object()) {
      *out = {ToolChoice::Kind::kNamed, TextOf(f->get_object(), "name")};
      return true;
    }
  }
  *error = "tool_choice must be \"none\", \"auto\", \"required\" or name a function";
  return false;
}

std::string DescribeInMessages(std::string_view messages_json, const std::vector<Tool>& tools, bool forced) {
  const std::optional<json::value> messages = Parse(messages_json);
  if (!messages || !messages->is_array()) return std::string(messages_json);
  json::array out;
  std::string before = tools.empty() ? std::string() : Describe(tools, forced);
  const auto role_of = [](const json::value& v) {
    return v.is_object() ? TextOf(v.get_object(), "role") : std::string();
  };
  const json::array& in = messages->get_array();
  if (!before.empty() && (in.empty() || (role_of(in[0]) != "system" && role_of(in[0]) != "developer")))
    out.push_back(json::object{{"role", "system"}, {"content", std::exchange(before, {})}});
  bool results = false;  // the last message is one of results
  for (const json::value& v : in) {
    const std::string role = role_of(v);
    if (role.empty()) {
      out.push_back(v);
      continue;
    }
    const json::object& message = v.get_object();
    if (!before.empty()) {
      out.push_back(
          json::object{{"role", role}, {"content", ContentOf(message) + "\n\n" + std::exchange(before, {})}});
    } else if (role == "tool") {
      const std::string text = "<tool_response>\n" + ContentOf(message) + "\n</tool_response>";
      if (results) {
        json::string& last = out.back().as_object()["content"].as_string();
        last += "\n" + text;
      } else {
        out.push_back(json::object{{"role", "user"}, {"content", text}});
      }
    } else if (role == "assistant" && message.contains("tool_calls")) {
      const std::string content = ContentOf(message), calls = CallsOf(message);
      out.push_back(json::object{
          {"role", role}, {"content", content + (content.empty() || calls.empty() ? "" : "\n") + calls}});
    } else {
      out.push_back(v);
    }
    results = role == "tool";
  }
  return json::serialize(out);
}

std::optional<std::string> InStrictOrder(std::string_view messages_json) {
  const std::optional<json::value> messages = Parse(messages_json);
  if (!messages || !messages->is_array()) return std::nullopt;
  json::array others;
  std::string system, last;  // last: the role before
  bool changed = false;
  for (const json::value& message : messages->get_array()) {
    const std::string role = message.is_object() ? TextOf(message.get_object(), "role") : std::string();
    if (role == "system" || role == "developer") {
      changed |= !others.empty();
      if (!system.empty()) system += "\n\n";
      system += ContentOf(message.get_object());
    } else if (role == "user" && last == "user") {
      changed = true;
      json::object& before = others.back().get_object();
      before["content"] = ContentOf(before) + "\n\n" + ContentOf(message.get_object());
    } else {
      others.push_back(message);
      last = role;
    }
  }
  if (!changed) return std::nullopt;
  if (!system.empty()) others.insert(others.begin(), json::object{{"role", "system"}, {"content", system}});
  return json::serialize(others);
}

std::optional<std::string> CallGrammar(const std::vector<Tool>& tools, bool parallel, std::string* error) {
  std::string rules, names;
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string prefix = "t" + std::to_string(i) + "-";
    std::string arguments = prefix + "root";
    if (tools[i].parameters.empty()) {
      rules += arguments + " ::= \"{}\"\n";
    } else {
      const std::optional<std::string> schema = SchemaGrammar(tools[i].parameters, error);
      if (!schema) {
        *error = "tools: the parameters of '" + tools[i].name + "' cannot be held to: " + *error;
        return std::nullopt;
      }
      rules += WithPrefix(*schema, prefix);
    }
    names += (i ? " | " : "") + std::string("\"\\\"") + tools[i].name + "\\\", \\\"arguments\\\":\" \" \"? " +
             arguments;
  }
  const std::string open = "\"" + std::string(kToolCallOpen) + "\\n{\\\"name\\\": \"";
  std::string root = "root ::= " + open + " (" + names + ")\n";  // one: complete when the arguments are
  if (parallel)
    root = "root ::= call (\"\\n\" call){0," + std::to_string(kMaxParallelCalls - 1) + "}\ncall ::= " + open +
           " (" + names + ") \"}\\n" + std::string(kToolCallClose) + "\"\n";
  return root + rules;
}

std::string CallPrefix(const std::vector<Tool>& tools) {
  std::string out = std::string(kToolCallOpen) + "\n{\"name\": \"";
  if (tools.size() == 1) out += tools[0].name + "\", \"arguments\":";
  return out;
}

}  // namespace cyllm::llama
