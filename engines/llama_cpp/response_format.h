// What an answer is held to, by the names that OpenAI, vLLM and llama-server have for it.
#pragma once

#include <string>
#include <string_view>

namespace cyllm::llama {

struct Format {
  std::string gbnf;                       // empty: free text
  const char* param = "response_format";  // the field that says so, or that is at fault
};

// `response_format`: OpenAI's, and {"type": "grammar", "grammar": GBNF} beside it. `extra`: the fields that
// nobody read (cyllm_request.extra_json); of them response_format, guided_json, guided_regex, guided_choice,
// guided_grammar, structured_outputs, json_schema and grammar count. Both are JSON, or empty. False and
// `error` when one of them is not what it should be, or when there is more than one.
bool ReadFormat(std::string_view response_format, std::string_view extra, Format* out, std::string* error);

}  // namespace cyllm::llama
