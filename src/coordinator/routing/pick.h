// Where the worker is chosen: pure functions of the request's facts and the fleet's state.
#pragma once

#include "inference/fleet.h"

namespace cyllm {

// In turns over the workers that are ready, have the model and were not tried yet.
Decision PickRoundRobin(const RequestFacts& facts, std::span<const BackendView> views, uint64_t turn);

}  // namespace cyllm
