// The scheduler's dealings with the prompt lane.
#include <algorithm>
#include <utility>

#include "llama_cpp/scheduler.h"
#include "llama_cpp/scheduler_job.h"

namespace cyllm::llama {

namespace {

// A prompt that misses less is computed here sooner than it is sent to the lane and fetched back.
constexpr uint32_t kWorthLane = 48;

// For so long, prompts that the lane has no seat for wait for one.
constexpr std::chrono::milliseconds kForSeat{250};

}  // namespace

bool Scheduler::LaneIsOpen() const { return lane_ && lane_works_ && away_.size() < lane_->seats(); }

// More prompts than sequences that decode, which would wait for a tile no longer than the target latency.
bool Scheduler::Crowded() const {
  const uint32_t decoding = Decoding();
  auto prompts = static_cast<size_t>(std::count_if(running_.begin(), running_.end(), [](const auto& slot) {
    return slot && slot->choice->prefilling() && slot->choice->missing() >= kWorthLane;
  }));
  size_t places = Full() ? 0 : decoder_.max_running() - cache_.running() - away_.size();
  const Job* before = nullptr;  // a request's choices share its prompt
  for (auto it = waiting_.begin(); it != waiting_.end() && places > 0; ++it) {
    if (std::exchange(before, it->job) == it->job) continue;
    ++prompts;
    --places;
  }
  return prompts > decoding && budget_.Tokens(decoding) >= kTileRows;
}

// Prompts go to the lane while somebody decodes, or others of them are there already. False: it has to stay.
bool Scheduler::DepartWithPrefix(const Slot& slot) {
  if (!LaneIsOpen() || (away_.empty() && (Decoding() == 0 || Crowded()))) return false;
  const auto tokens = slot.choice->tokens();
  const auto donor = cache_.Donor(slot.job->request->adapter, tokens.first(tokens.size() - 1))
                         .value_or(PrefixCache::Place{});
  if (tokens.size() - donor.reused < kWorthLane) return false;
  return Depart(slot, donor.sequence, donor.reused);
}

// To the lane, with the first `computed` tokens of what the sequence `donor` holds. False: it has to stay.
bool Scheduler::Depart(const Slot& slot, uint32_t donor, uint32_t computed) {
  const Request& request = *slot.job->request;
  const auto tokens = slot.choice->tokens();
  PromptLane::Prompt prompt{++tickets_,
                            {tokens.begin(), tokens.end()},
                            static_cast<uint32_t>(request.prompt.size()),
                            {},
                            computed,
                            request.priority,
                            request.submitted,
                            request.adapter};
  if (computed > 0) lane_works_ = decoder_.Save(donor, &prompt.state);
  if (!lane_works_) return false;
  if (!slot.job->cached) {
    slot.job->cached = computed;
    stats_.cached += computed;
  }
  slot.choice->Started(now_());
  slot.choice->Rewind();
  away_.emplace(tickets_, Away{slot, computed});
  lane_->Submit(std::move(prompt));
  return true;
}

// Computed here, it would make tokens of others come later, and would itself be slower than there. But it
// does not wait for those alone that are less urgent.
bool Scheduler::WaitsForSeat(const Slot& slot, TimePoint now) const {
  if (!lane_ || !lane_works_ || Decoding() == 0 || slot.choice->missing() < kWorthLane) return false;
  return now - slot.admitted < kForSeat &&
         std::any_of(
             away_.begin(), away_.end(),
             [&](const auto& away) {
               return away.second.slot.job->request->priority <= slot.job->request->priority;
             });
}

// Prompts that were begun here, while nobody decoded or the lane had no seat.
void Scheduler::DepartLong() {
  if (!LaneIsOpen() || Decoding() == 0 || Crowded()) return;
  for (uint32_t sequence = 0; sequence < running_.size(); ++sequence) {
    const auto& slot = running_[sequence];
    if (!slot || !slot->choice->prefilling() || slot->choice->missing() < kWorthLane) continue;
    if (!LaneIsOpen() || !Depart(*slot, sequence, slot->choice->computed())) return;
    Free(sequence);
  }
}

void Scheduler::Land(Events* events) {
  if (!lane_) return;
  for (PromptLane::Result& result : lane_->Take()) {
    const auto node = away_.extract(result.ticket);
    if (!node || Land(node.mapped(), &result, events)) continue;
    lane_works_ = false;
    waiting_.insert(node.mapped().slot);
  }
}

// False: it has to be computed here.
bool Scheduler::Land(const Away& away, PromptLane::Result* result, Events* events) {
  if (!result->ok) return false;
  Choice& choice = *away.slot.choice;
  const auto tokens = choice.tokens();
  const auto size = static_cast<uint32_t>(tokens.size());
  const uint32_t sequence = cache_.AcquireEmpty(away.slot.job->request->adapter);
  if (!decoder_.Restore(sequence, result->state)) {
    cache_.Release(sequence);
    return false;
  }
  running_[sequence] = away.slot;
  cache_.Append(sequence, tokens);
  stats_.prefilled += size - away.computed;
  if (away.slot.job->credit > 0) {
    const bool prefilling = choice.prefilling();
    choice.Computed(size);
    Sample(sequence, prefilling, result->logits, now_(), events);
  } else {  // the last token is computed again when there is
    choice.Computed(size - 1);
    cache_.Cut(sequence, size - 1);
  }
  return true;
}

}  // namespace cyllm::llama
