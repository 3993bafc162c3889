// Several requests of one call (the prompts of a completion) as one stream.
#pragma once

#include <vector>

#include "inference/service.h"

namespace cyllm {

// One stream after the other, as the response lists them; meanwhile the later ones run ahead as far as their
// credit goes. Request i's choice j is choice i*n + j. Only the first Accepted is passed on; the first
// failure ends it all.
EventStream Merge(std::vector<EventStream> streams, uint32_t n);

}  // namespace cyllm
