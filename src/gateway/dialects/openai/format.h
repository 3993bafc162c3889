// What an answer is to be held to, of chats and completions.
#pragma once

#include "gateway/dialects/common/dialect.h"
#include "gateway/dialects/common/fields.h"

namespace cyllm::openai {

// A chat's response_format, or a schema by the names of vLLM and llama-server, which become one.
void ReadFormat(dialect::Fields& fields, const boost::json::object& body, RequestFacts& facts,
                PayloadParts& parts);

// The engine must be able to hold answers to a form if the body has one of the fields that ask for it. They
// are left where they are, for the engine or the model server.
void NeedFormat(const boost::json::object& body, RequestFacts& facts);

}  // namespace cyllm::openai
