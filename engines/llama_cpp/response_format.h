// OpenAI's response_format, and {"type": "grammar", "grammar": GBNF} beside it.
#pragma once

#include <string>
#include <string_view>

namespace cyllm::llama {

// The grammar of the content; empty: free text. False and `error` when it is not that.
bool FormatGrammar(std::string_view response_format_json, std::string* gbnf, std::string* error);

}  // namespace cyllm::llama
