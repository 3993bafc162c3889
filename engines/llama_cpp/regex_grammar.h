// Regular expressions as grammars.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace cyllm::llama {

// GBNF whose `root` is every text that `regex` matches as a whole. It knows literals, . and classes, \d \w \s
// (of ASCII) and their opposites, groups, alternatives, repetitions (lazy ones are no others), and ^ $ at the
// ends. nullopt and `error` with the place for anything else (\b, references, looking around, flags, ...),
// and when it is too large.
std::optional<std::string> RegexGrammar(std::string_view regex, std::string* error);

}  // namespace cyllm::llama
