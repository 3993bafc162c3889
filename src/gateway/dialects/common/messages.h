// Chat messages, tools and formats in the form that engines get: OpenAI's, made regular and validated.
#pragma once

#include <boost/json.hpp>

#include "base/status.h"
#include "inference/request.h"

namespace cyllm::dialect {

// Makes `messages` regular in place: roles system, user, assistant and tool (developer is system, function
// is tool), content a string (text parts joined, null of an assistant empty), no null fields; arguments of
// calls the text of a JSON object; system messages at the front are joined to one. INVALID_ARGUMENT naming
// the message.
Status NormalizeMessages(boost::json::array& messages);

Status CheckTools(const boost::json::array& tools);
// `tools` may be null.
Status CheckToolChoice(const boost::json::value& choice, const boost::json::array* tools);
Status CheckResponseFormat(const boost::json::object& format);

// The checked tools and choice (either may be null) as part of a request. No tools and `none`: nothing. A
// choice of OpenAI's form `allowed_tools` leaves out the other tools.
Status PutTools(const boost::json::array* tools, const boost::json::value* choice, RequestFacts& facts,
                PayloadParts& parts);
// The checked format. `text`: nothing.
Status PutResponseFormat(const boost::json::object& format, RequestFacts& facts, PayloadParts& parts);

// The normalized messages, and what the request's estimates say about them.
void PutMessages(const boost::json::array& messages, RequestFacts& facts, PayloadParts& parts);

// Tokens of a text of so many bytes, roughly.
uint32_t EstimateTokens(size_t bytes);

}  // namespace cyllm::dialect
