// A function in a process of its own, with a limit.
#pragma once

#include <chrono>
#include <functional>

#include "worker/engine_check/checks.h"
#include "worker/engine_check/runner.h"

namespace cyllm::engine_check {

// What `f` reports; and whether it crashed, hung or (with sanitizers) leaked. Everything that it started in
// its process group is gone afterwards.
Outcome InChild(const std::string& name, std::chrono::milliseconds limit,
                const std::function<void(const Report&)>& f);

// Built with AddressSanitizer or ThreadSanitizer: what is done to memory is told by it, and ends the process
// with status 1 or 66.
extern const bool kSanitized;

}  // namespace cyllm::engine_check
