// Anthropic's messages and tools in the form that engines get.
#pragma once

#include <boost/json.hpp>

#include "base/status.h"
#include "gateway/dialects/common/fields.h"

namespace cyllm::anthropic {

// `system` and `messages` as OpenAI's messages, not yet normalized. Blocks of text, tools, their results and
// thinking are known; results come before what the user says in the same message.
Result<boost::json::array> MessagesOf(dialect::Fields& fields);

// `tools` and `tool_choice` as OpenAI's. Tools that a server would have to run are left out.
Result<boost::json::array> ToolsOf(const boost::json::array& tools);
Result<boost::json::value> ToolChoiceOf(const boost::json::object& choice);

}  // namespace cyllm::anthropic
