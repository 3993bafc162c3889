// What echo answers instead of the user's words: a call of a tool, or JSON that a schema is satisfied with.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sdk/engine.h"

namespace cyllm::echo {

struct Script {
  std::string tool;                 // called with the text as its arguments; empty: the text is content
  std::vector<std::string> pieces;  // of the text, one a token
  bool dictated = false;            // the user's words are this call, arguments and all
};

// A call when one is required, named, or the last user message `asked` holds a tool's name; else an instance
// of the response format's schema. nullopt without an error: the words are repeated. An error: not tools, not
// a format.
std::optional<Script> ReadScript(const cyllm_request& request, std::string_view asked, std::string* error);

}  // namespace cyllm::echo
