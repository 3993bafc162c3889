// Texts to choose from as grammars.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace cyllm::llama {

// GBNF whose `root` is one of `texts`. nullopt and `error` when there are none or too many, or when one is
// empty or too long.
std::optional<std::string> LiteralGrammar(std::span<const std::string_view> texts, std::string* error);

}  // namespace cyllm::llama
