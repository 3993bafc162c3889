// A server's own chunk, for a client that speaks its dialect: what of it goes on as it came. Pure text work
// on a chunk that was read before, so that it is known to be JSON.
//
// Members of the chunk are given back as text, without the braces, in their order and their own writing. Left
// out is what the client is told by us (id, object, created, model, usage, the role) and what only we asked
// for. Empty: this chunk cannot be passed on, and has to be written anew.
#pragma once

#include <string>
#include <string_view>

#include "inference/event.h"

namespace cyllm::upstream {

// What we asked for, and the client did not.
struct Hidden {
  bool token_ids = false;
  bool logprobs = false;
};

// The delta of a chunk with one choice. Where the chunk `ends` the choice too, that and all that is unknown
// are left to EndMembers.
std::string DeltaMembers(std::string_view chunk, const Hidden& hidden, bool ends);

// The end of its choice; `told`: the delta beside it was passed on before.
std::string EndMembers(std::string_view chunk, const Hidden& hidden, FinishReason reason, bool told);

// The usage, with all that stands beside it where no choice does.
std::string UsageMembers(std::string_view chunk, bool has_choices);

}  // namespace cyllm::upstream
