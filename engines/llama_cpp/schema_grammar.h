// JSON schemas as grammars.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace cyllm::llama {

// GBNF with a rule `root`. nullopt and `error` when it is no schema that can be held to, or larger than what
// is converted in bounded time (see schema_bounds.cc). What JSON schema knows and a grammar does not (bounds
// of fractions, uniqueItems, `not`, ...) is not held to.
std::optional<std::string> SchemaGrammar(std::string_view schema_json, std::string* error);

// Any JSON object.
std::string ObjectGrammar();

// The same grammar with `prefix` before the name of each rule.
std::string WithPrefix(std::string_view gbnf, std::string_view prefix);

// What is wrong with the size or shape of a schema; empty: nothing.
std::string SchemaTooLarge(std::string_view schema_json);

}  // namespace cyllm::llama
