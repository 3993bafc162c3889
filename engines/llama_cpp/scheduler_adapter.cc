// Which adapter a step is computed with.
#include <algorithm>

#include "llama_cpp/scheduler.h"
#include "llama_cpp/scheduler_job.h"

namespace cyllm::llama {

bool Scheduler::OfStep(const Slot& slot) const { return slot.job->request->adapter == adapter_; }

// Tokens and prompts of the first adapter, in the order of their turns, that has something to compute.
void Scheduler::PlanTurn(TimePoint now) {
  std::set<uint32_t> wanted;
  for (const auto& slot : running_)
    if (slot && slot->job->credit > 0) wanted.insert(slot->job->request->adapter);
  for (const uint32_t adapter : turns_.Order({wanted.begin(), wanted.end()}, now)) {
    adapter_ = adapter;
    PlanStep();
    if (decoding_ == 0 && prompt_ == 0) continue;
    changed_ = turns_.Took(adapter, now);
    return;
  }
  decoded_.clear();
}

void Scheduler::PlanStep() {
  const bool decoded = decoded_.erase(adapter_) > 0;
  if (decoded) PlanPrefill();
  if (prompt_ == 0) PlanDecoding();
  if (decoding_ == 0 && prompt_ == 0) PlanPrefill();
  if (decoding_ > 0) decoded_.insert(adapter_);
}

}  // namespace cyllm::llama
