// JSON schemas as grammars.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace cyllm::llama {

// GBNF with a rule `root`. nullopt and `error` when it is no schema that can be held to, or larger than what
// is converted in bounded time (see schema_bounds.cc). What JSON schema knows and a grammar does not (bounds
// of fractions, very large `maxLength` and `maxItems`, uniqueItems, `not`, ...) is not held to.
std::optional<std::string> SchemaGrammar(std::string_view schema_json, std::string* error);

// JSON of more levels than llama.cpp, which recurses by them, may be shown.
bool IsDeepJson(std::string_view text);

// Any JSON object.
std::string ObjectGrammar();

// The same grammar with `prefix` before the name of each rule.
std::string WithPrefix(std::string_view gbnf, std::string_view prefix);

// The schema without the bounds that no grammar can count to; nullopt and `error` when its size or shape is
// wrong.
std::optional<std::string> BoundedSchema(std::string_view schema_json, std::string* error);

}  // namespace cyllm::llama
