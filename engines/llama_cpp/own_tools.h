// Tools for models whose template knows none: described in the system message, called in a form of ours,
//   <tool_call>
//   {"name": "get_weather", "arguments": {"city": "Oslo"}}
//   </tool_call>
// which a grammar holds the model to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cyllm::llama {

constexpr std::string_view kToolCallOpen = "<tool_call>", kToolCallClose = "</tool_call>";
constexpr uint32_t kMaxParallelCalls = 16;

struct Tool {
  std::string name, description;
  std::string parameters;  // a JSON schema; empty: no arguments
};

struct ToolChoice {
  enum class Kind { kNone, kAuto, kRequired, kNamed };
  Kind kind = Kind::kAuto;
  std::string name;  // kNamed
};

// From OpenAI's JSON. False and `error` when it is not that.
bool ReadTools(std::string_view tools_json, std::vector<Tool>* out, std::string* error);
// An empty text: auto.
bool ReadToolChoice(std::string_view choice_json, ToolChoice* out, std::string* error);

// OpenAI messages as a template without tools can take them: the tools in the system message (not if there
// are none), calls and their results as text.
std::string DescribeInMessages(std::string_view messages_json, const std::vector<Tool>& tools, bool forced);

// For templates that take no other order: all system messages as one at the front, and what users say in a
// row as one message. nullopt: it is so.
std::optional<std::string> InStrictOrder(std::string_view messages_json);

// The grammar of one call, or of up to kMaxParallelCalls. nullopt and `error` when a tool's parameters are no
// schema that can be held to.
std::optional<std::string> CallGrammar(const std::vector<Tool>& tools, bool parallel, std::string* error);

// How the answer begins when one of `tools` must be called: the prompt ends with it.
std::string CallPrefix(const std::vector<Tool>& tools);

}  // namespace cyllm::llama
