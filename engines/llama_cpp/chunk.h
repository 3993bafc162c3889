// Where a sequence's tokens are cut into steps.
#pragma once

#include <algorithm>
#include <cstdint>

#include "llama_cpp/decoder.h"

namespace cyllm::llama {

// How many of a sequence's next tokens a step takes: about `room`, at most kTileRows - 1 more. Wherever they
// are cut, they are computed in the same arithmetic: of a prompt of which kTileRows or more are left all in
// tiles (unless there is no room for so many), what was generated before, and is computed again, never in
// tiles, as when it was generated. `prompt` and `generated` tokens are left, in this order, one at least;
// room for one at least.
constexpr uint32_t Chunk(uint32_t prompt, uint32_t generated, uint32_t room) {
  if (prompt == 0) return std::min({generated, room, kTileRows - 1});
  const uint32_t chunk = std::min(prompt, room), rest = prompt - chunk;
  if (chunk < kTileRows || rest == 0 || rest >= kTileRows) return chunk;
  return prompt < 2 * kTileRows ? prompt : prompt - kTileRows;
}

}  // namespace cyllm::llama
