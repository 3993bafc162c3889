// From the logits of a step to the tokens that follow, and what is told of them.
#include <algorithm>
#include <exception>
#include <string>
#include <utility>

#include "llama_cpp/scheduler.h"
#include "llama_cpp/scheduler_job.h"

namespace cyllm::llama {

void Scheduler::Sample(uint32_t sequence, bool prefilling, std::span<float> logits, TimePoint now,
                       Events* events) {
  Slot& slot = *running_[sequence];
  const Request& request = *slot.job->request;
  if (prefilling) cache_.Name(sequence, request.prefix_hashes, static_cast<uint32_t>(request.prompt.size()));
  if (!slot.choice->constrained() || BudgetOf(slot).Open(now_()))
    return Choose(sequence, logits, now, events);
  slot.choice->Hold(logits);
  slot.held = now;
}

void Scheduler::Choose(uint32_t sequence, std::span<float> logits, TimePoint now, Events* events) {
  if (!Next(sequence, logits, now, events)) return;
  const Slot slot = *running_[sequence];
  ++stats_.generated;
  if (slot.choice->finished()) Free(sequence);
  Emit(slot, events);
}

// Of logits that were held, where there are none. False: it threw, and its request has ended.
bool Scheduler::Next(uint32_t sequence, std::span<float> logits, TimePoint now, Events* events) {
  Slot& slot = *running_[sequence];
  Choice& choice = *slot.choice;
  try {
    const TimePoint begin = now_();
    logits.empty() ? choice.NextOfHeld(now) : choice.Next(logits, now);
    if (choice.constrained()) {
      const MatchingBudget::Seconds took = now_() - begin;
      BudgetOf(slot).Spent(took);
      slot.matched = took;
    }
    return true;
  } catch (const std::exception& e) {
    // Of its other sequences too, what the step computed is not accounted for.
    for (uint32_t other = 0; other < running_.size(); ++other)
      if (running_[other] && running_[other]->job == slot.job)
        cache_.Cut(other, running_[other]->choice->computed());
    cyllm_error error{};
    error.size = sizeof error;
    sdk::Fail(&error, CYLLM_INTERNAL, std::string("the answer failed: ") + e.what(), "engine_failed");
    End(slot.job, &error, events);
    return false;
  }
}

MatchingBudget& Scheduler::BudgetOf(const Slot& slot) { return slot.dear() ? dear_matching_ : matching_; }

// Which of those that are held could be paid for.
bool Scheduler::PlanHeld() {
  bool any = false;
  for (auto& slot : running_) {
    if (!slot) continue;
    slot->due = slot->choice->held() && slot->job->Reserve();
    any |= slot->due;
  }
  return any;
}

// Who has been held longest is first, and goes on in any case when there is nothing else to do.
void Scheduler::MatchHeld(bool idle, Events* events) {
  std::vector<std::pair<TimePoint, uint32_t>> due;
  for (uint32_t sequence = 0; sequence < running_.size(); ++sequence)
    if (running_[sequence] && running_[sequence]->due) due.emplace_back(running_[sequence]->held, sequence);
  std::sort(due.begin(), due.end());
  for (const auto& [since, sequence] : due) {
    if (!running_[sequence]) continue;  // its request has ended
    const TimePoint now = now_();
    if (!BudgetOf(*running_[sequence]).Open(now) && !std::exchange(idle, false)) continue;
    Choose(sequence, {}, now, events);
  }
}

void Scheduler::Emit(const Slot& slot, Events* events) {
  Job* job = slot.job;
  Choice& choice = *slot.choice;
  const uint64_t id = job->request->id;
  // One event's credit is reserved; more, of a token that gives several, as far as credit reaches.
  for (bool first = true; first || job->credit > job->reserved; first = false) {
    if (first && job->reserved > 0) --job->reserved;
    std::optional<Delta> delta = choice.output().Take();
    if (!delta) break;
    std::string call = delta->part.opens ? choice.CallId(delta->part.call) : std::string();
    events->Piece(id, choice.index(), std::move(*delta), std::move(call));
    --job->credit;
  }
  if (!choice.finished()) return;
  if (!choice.output().empty()) return ending_.push_back(slot);
  cyllm_event& event = events->Add(id, CYLLM_EVENT_FINISHED, choice.index());
  event.finish_reason = choice.reason();
  event.end = choice.output().end();
  event.stop_match = events->Keep(choice.output().stop_match().value_or(std::string()));
  event.prompt_tokens = static_cast<uint32_t>(job->request->prompt.size());
  // Of an answer that is taken over, what was said before may have been there too.
  event.cached_tokens = std::min(job->cached.value_or(0), event.prompt_tokens);
  event.completion_tokens = choice.generated();
  event.reasoning_tokens = choice.output().reasoning_tokens();
  event.queue_ms = choice.queue_ms();
  event.ttft_ms = choice.ttft_ms();
  event.decode_ms = choice.decode_ms();
  if (--job->unfinished == 0) End(job, nullptr, events);
}

}  // namespace cyllm::llama
