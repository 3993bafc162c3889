// UTF-8 and JSON text: validity, complete code points, escaping.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace cyllm {

// Length in bytes of the longest prefix that does not end inside a (so far valid) code point: what may be
// sent now, the rest being held back until its missing bytes arrive. Invalid bytes count as complete.
size_t CompleteUtf8Prefix(std::string_view text);

bool IsValidUtf8(std::string_view text);

// Every maximal invalid sequence replaced by U+FFFD (Unicode 15, section 3.9, "substitution of maximal
// subparts").
std::string RepairUtf8(std::string_view text);

// Appends the inside of a JSON string (no quotes). Control characters are escaped, invalid bytes become
// U+FFFD, everything else stays as it is.
void AppendJsonEscaped(std::string& out, std::string_view text);
std::string JsonEscape(std::string_view text);

// Number of code points (invalid bytes count as one each).
size_t CountCodePoints(std::string_view text);

}  // namespace cyllm
