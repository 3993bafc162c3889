// What this process holds: threads, files, memory.
#pragma once

#include <cstddef>

#include "worker/engine_check/checks.h"

namespace cyllm::engine_check {

struct Held {
  size_t threads = 0, files = 0, bytes = 0;  // bytes: of malloc; always 0 under sanitizers
};

Held HeldNow();

// The same, later than `before`. A thread that was joined is seen by the system a moment longer: with more
// threads than before, half a second is waited for them to go.
Held HeldAfter(const Held& before);

// Threads and files may not grow at all, memory by `slack` bytes.
void TellGrowth(const Held& before, const Held& after, size_t slack, const Report& wrong);

}  // namespace cyllm::engine_check
