// Input items and tools of the Responses API in the form that engines get.
#pragma once

#include <boost/json.hpp>

#include "base/status.h"
#include "gateway/dialects/common/fields.h"

namespace cyllm::responses {

// `instructions` and `input` as OpenAI's messages, not yet normalized. Calls and what was thought before them
// become one message of the assistant. Items of tools that a server would run are left out.
Result<boost::json::array> MessagesOf(dialect::Fields& fields);

// Functions only; other tools are left out.
Result<boost::json::array> ToolsOf(const boost::json::array& tools);
// Of tools that were left out: auto.
boost::json::value ToolChoiceOf(const boost::json::value& choice);

}  // namespace cyllm::responses
