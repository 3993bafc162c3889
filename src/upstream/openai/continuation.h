// Going on with an answer that another server began, where that is exact: its tokens are known, and nothing
// but tokens decides what comes next. The server is given the prompt's ids and the delivered ones as a prompt
// of /v1/completions. Pure.
//
// The ids of the prompt are the taking-over server's own: its digest says that it has the same model. That
// the delivered ids are all there is checked by their text (ids of llama-server lack those that showed no
// text).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "upstream/openai/request.h"

namespace cyllm::upstream {

// Whether an answer to this request can be gone on with; told in Accepted.
bool CanContinue(const Profile& profile, const RequestFacts& facts, const PayloadParts& parts);

// Whether the state is one to go on from, by a server with this digest (empty: none). FAILED_PRECONDITION,
// cannot_resume.
Status CheckContinuation(const Profile& profile, const RequestFacts& facts, const PayloadParts& parts,
                         const std::string& digest);

// Of chats, where the server makes a text of them first (llama-server); else its path is empty.
HttpCall TemplateCall(const Profile& profile, const PayloadParts& parts);
// The ids of the prompt; `text`: the answer of TemplateCall.
Result<HttpCall> PromptIdsCall(const Profile& profile, std::string_view model, const RequestFacts& facts,
                               const PayloadParts& parts, const std::string& text);
// The text of the delivered ids.
Result<HttpCall> DeliveredTextCall(const Profile& profile, std::string_view model, const RequestFacts& facts);

// Bodies of their answers.
Result<std::string> ReadPromptText(std::string_view body);
Result<std::vector<int32_t>> ReadPromptIds(std::string_view body);

// Whether this is the text of all the tokens that were delivered, no less.
bool IsWhole(const RequestFacts& facts, std::string_view delivered_text);

// The request for the rest. `context`: tokens that fit the model, 0: not known.
Result<HttpCall> ContinueCall(const Profile& profile, std::string_view model, const RequestFacts& facts,
                              const PayloadParts& parts, std::vector<int32_t> prompt_ids, uint32_t context);

}  // namespace cyllm::upstream
