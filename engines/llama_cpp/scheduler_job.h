// A request as the scheduler keeps it; of its sources only.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "llama_cpp/scheduler.h"

namespace cyllm::llama {

struct Scheduler::Job {
  std::unique_ptr<Request> request;
  std::vector<std::unique_ptr<Choice>> choices;
  uint64_t credit = 0;    // events that may be sent
  uint32_t reserved = 0;  // of them, for this step
  uint32_t unfinished = 0;
  std::optional<uint32_t> cached;      // prompt tokens that the first choice found computed
  std::optional<TimePoint> no_credit;  // since

  bool Reserve() {
    if (reserved >= credit) return false;
    ++reserved;
    return true;
  }
};

}  // namespace cyllm::llama
