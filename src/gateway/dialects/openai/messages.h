// Validation of chat messages, tools and formats.
#pragma once

#include <boost/json.hpp>

#include "base/status.h"

namespace cyllm::openai {

// `messages` as engines get them: an array of objects with a known role and text content (strings, or arrays
// of text parts; deprecated and null forms made regular). INVALID_ARGUMENT naming the message.
Result<boost::json::array> CheckMessages(const boost::json::array& messages);

Status CheckTools(const boost::json::array& tools);
// `tools` may be null.
Status CheckToolChoice(const boost::json::value& choice, const boost::json::array* tools);
Status CheckResponseFormat(const boost::json::object& format);

}  // namespace cyllm::openai
