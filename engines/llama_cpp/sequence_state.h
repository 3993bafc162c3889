// What llama.cpp writes of one sequence, made independent of the context that wrote it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cyllm::llama {

// llama_state_seq_get_data of the release we build against gives: u32 magic, i32 sequence, u32 number of
// streams (sequences of the context), and for each stream a u32 count of cells, followed by these. Only the
// sequence's own stream has any. A context takes only what has its own number of streams.

// Brings what a context of `streams` wrote of `sequence` into a form that Fit takes; false when it is not as
// told above.
bool Generalise(uint32_t sequence, uint32_t streams, std::vector<uint8_t>* state);

// Makes it readable for a context of `streams`, 256 at most. Can be done again.
bool Fit(uint32_t streams, std::span<uint8_t> state);

}  // namespace cyllm::llama
