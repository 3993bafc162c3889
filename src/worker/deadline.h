// A request's deadline, kept where it runs: also when whoever asked is silent.
#pragma once

#include "inference/service.h"

namespace cyllm {

// `stream` until `deadline`; then it is cancelled and the end is DEADLINE_EXCEEDED. kNever: `stream` itself.
EventStream UntilDeadline(EventStream stream, TimePoint deadline);

}  // namespace cyllm
