// The host's side of the ABI as a checked engine sees it.
#pragma once

#include "sdk/engine.h"

namespace cyllm::engine_check {

// Its log goes to stderr from level ERROR on; gauges are dropped.
cyllm_host MakeHost(uint32_t major, uint32_t minor);

}  // namespace cyllm::engine_check
