#include "llama_cpp/scheduler.h"

#include <algorithm>
#include <exception>
#include <string>
#include <tuple>
#include <utility>

#include "llama_cpp/chunk.h"
#include "llama_cpp/scheduler_job.h"

namespace cyllm::llama {

namespace {

// Without credit for so long, a sequence is worth more to others.
constexpr std::chrono::milliseconds kStalled{500};

}  // namespace

bool Scheduler::First::operator()(const Slot& a, const Slot& b) const {
  const auto key = [](const Slot& s) {
    return std::tuple(s.job->request->priority, s.order, s.choice->index());
  };
  return key(a) < key(b);
}

Scheduler::Scheduler(Decoder& decoder, const Vocabulary& vocabulary, SchedulerOptions options, Now now,
                     PromptLane* lane)
    : decoder_(decoder),
      vocabulary_(vocabulary),
      options_(options),
      now_(std::move(now)),
      lane_(lane),
      cache_(decoder, decoder.max_running(), options.prefix_caching),
      budget_(options.target_itl, options.prefill_chunk),
      running_(decoder.max_sequences()),
      turns_(options.target_itl),
      matching_(options.target_itl / 2, 0.5),
      dear_matching_(options.target_itl / 2, 0.25) {}

Scheduler::~Scheduler() = default;

void Scheduler::Add(std::unique_ptr<Request> request, Events* events) {
  auto job = std::make_unique<Job>();
  job->request = std::move(request);
  const Request& r = *job->request;
  job->credit = r.credit;
  job->unfinished = r.choices;
  for (uint32_t i = 0; i < r.choices; ++i) {
    job->choices.push_back(std::make_unique<Choice>(r, i, vocabulary_));
    if (r.resume.empty() || job->choices[i]->Resume(r.resume[i])) continue;
    cyllm_error error{};
    error.size = sizeof error;
    sdk::Fail(&error, CYLLM_INVALID_ARGUMENT, "the state to resume from is not one of this request",
              "cannot_resume");
    return events->End(r.id, &error);
  }
  events->Add(r.id, CYLLM_EVENT_ACCEPTED).prompt_tokens = static_cast<uint32_t>(r.prompt.size());
  for (uint32_t i = 0; i < r.choices; ++i) {
    waiting_.insert(Slot{job.get(), job->choices[i].get(), arrivals_});
  }
  ++arrivals_;
  jobs_.emplace(r.id, std::move(job));
}

bool Scheduler::Cancel(uint64_t id, const cyllm_error& error, Events* events) {
  const auto it = jobs_.find(id);
  if (it == jobs_.end()) return false;
  End(it->second.get(), &error, events);
  return true;
}

bool Scheduler::Credit(uint64_t id, uint32_t events) {
  const auto it = jobs_.find(id);
  if (it == jobs_.end()) return false;
  it->second->credit += events;
  return true;
}

bool Scheduler::Plan() {
  rows_.clear();
  empty_.clear();
  const TimePoint now = planned_ = now_();
  for (auto& [id, job] : jobs_) {
    job->reserved = 0;
    if (job->credit > 0)
      job->no_credit.reset();
    else if (!job->no_credit)
      job->no_credit = now;
  }
  std::erase_if(ending_, [&](const Slot& slot) {
    if (!slot.job->Reserve()) return false;
    empty_.push_back(slot);
    return true;
  });
  for (auto& slot : running_) {
    if (!slot) continue;
    slot->planned = 0;
    slot->guess.clear();
  }
  Admit();
  DepartLong();
  Compact();
  decoding_ = prompt_ = 0;
  const bool held = PlanHeld();
  PlanTurn(now);
  AddRows();
  return !rows_.empty() || !empty_.empty() || held;
}

std::optional<TimePoint> Scheduler::WakeAt() const {
  if (std::none_of(waiting_.begin(), waiting_.end(), [](const Slot& slot) { return slot.job->credit > 0; }))
    return std::nullopt;
  std::optional<TimePoint> out;
  const auto consider = [&](const Slot& slot) {
    if (!slot.job->no_credit) return;
    const TimePoint at = *slot.job->no_credit + kStalled;
    if (at > planned_) out = std::min(at, out.value_or(at));  // Plan knew of those before
  };
  for (const auto& slot : running_)
    if (slot) consider(*slot);
  for (const auto& [ticket, away] : away_) consider(away.slot);
  return out;
}

void Scheduler::Admit() {
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const Slot& slot = *it;
    if (slot.job->request->max_tokens == 0 || slot.choice->finished()) {
      if (!slot.choice->finished()) slot.choice->Finish(CYLLM_FINISH_LENGTH);
      if (slot.choice->output().empty() || slot.job->Reserve()) {
        empty_.push_back(slot);
        it = waiting_.erase(it);
      } else {
        ++it;
      }
      continue;
    }
    if (slot.job->credit == 0 || SharesWork(slot)) {
      ++it;
      continue;
    }
    const std::optional<Victim> victim = Full() ? Displaceable(slot) : std::nullopt;
    if (Full() && !victim) return;
    if (victim) Displace(*victim);
    if (!DepartWithPrefix(slot)) Start(slot);
    it = waiting_.erase(it);
  }
}

// Whether another sequence is computing what this one would have to compute too.
bool Scheduler::SharesWork(const Slot& slot) const {
  if (!cache_.reuse()) return false;
  const auto tokens = slot.choice->tokens();
  const uint32_t adapter = slot.job->request->adapter;
  std::optional<uint32_t> held;
  const auto computes = [&](const Slot& other) {
    if (!other.choice->prefilling() || other.job->credit == 0 ||
        other.job->request->priority > slot.job->request->priority)
      return false;
    const auto theirs = other.choice->tokens();
    if (theirs.front() != tokens.front() || other.job->request->adapter != adapter) return false;
    const auto end = std::mismatch(tokens.begin(), tokens.end(), theirs.begin(), theirs.end()).first;
    const auto common = static_cast<uint32_t>(end - tokens.begin());
    if (common <= other.choice->computed()) return false;
    if (common < PrefixCache::kWorthCopying) return false;
    if (!held) held = cache_.Held(adapter, tokens);
    return common > *held;
  };
  return std::any_of(running_.begin(), running_.end(), [&](const auto& o) { return o && computes(*o); }) ||
         std::any_of(away_.begin(), away_.end(), [&](const auto& o) { return computes(o.second.slot); });
}

// Who gives way to this one.
std::optional<Scheduler::Victim> Scheduler::Displaceable(const Slot& slot) const {
  const TimePoint now = now_();
  using Rank = std::tuple<bool, int32_t, uint64_t>;
  std::optional<Victim> victim;
  Rank last;
  const auto consider = [&](const Slot& other, Victim as) {
    if (other.job == slot.job) return;
    const bool stalled = other.job->no_credit && now - *other.job->no_credit >= kStalled;
    const int32_t theirs = other.job->request->priority, mine = slot.job->request->priority;
    if (theirs < mine || (theirs == mine && !stalled)) return;
    const Rank rank{stalled, theirs, other.order};
    if (victim && rank <= last) return;
    victim = as;
    last = rank;
  };
  for (uint32_t sequence = 0; sequence < running_.size(); ++sequence)
    if (running_[sequence]) consider(*running_[sequence], {sequence});
  for (const auto& [ticket, away] : away_) consider(away.slot, {std::nullopt, ticket});
  return victim;
}

// It starts again later.
void Scheduler::Displace(const Victim& victim) {
  ++stats_.preemptions;
  if (victim.sequence) {
    running_[*victim.sequence]->choice->Rewind();
    waiting_.insert(*running_[*victim.sequence]);
    return Free(*victim.sequence);
  }
  lane_->Cancel(victim.ticket);
  waiting_.insert(away_.extract(victim.ticket).mapped().slot);
}

void Scheduler::Start(const Slot& slot) {
  const auto tokens = slot.choice->tokens();
  // The last token's logits are needed, so it is computed in any case.
  const PrefixCache::Place place =
      cache_.Acquire(slot.job->request->adapter, tokens.first(tokens.size() - 1));
  slot.choice->Computed(place.reused);
  if (!slot.job->cached) {
    slot.job->cached = place.reused;
    stats_.cached += place.reused;
  }
  running_[place.sequence] = slot;
  running_[place.sequence]->admitted = now_();
}

// A gap that was there in the step before too: one that has just come is often filled at once.
void Scheduler::Compact() {
  if (!std::exchange(gap_, cache_.gap()) || !gap_) return;
  for (const PrefixCache::Move& move : cache_.Compact())
    running_[move.to] = std::exchange(running_[move.from], std::nullopt);
  gap_ = false;
}

uint32_t Scheduler::Decoding() const {
  return static_cast<uint32_t>(std::count_if(running_.begin(), running_.end(), [](const auto& slot) {
    return slot && !slot->choice->prefilling() && slot->job->credit > 0;
  }));
}

void Scheduler::PlanDecoding() {
  for (auto& slot : running_) {
    if (!slot || !OfStep(*slot) || slot->choice->prefilling() || slot->choice->held() || MustWait(*slot) ||
        !slot->job->Reserve())
      continue;
    slot->planned = 1;
    slot->sample = true;
    ++decoding_;
  }
  if (decoding_ > 1) return FillGaps();
  const auto alone = std::find_if(running_.begin(), running_.end(),
                                  [](const auto& slot) { return slot && slot->planned > 0; });
  if (alone != running_.end()) PlanGuess(&**alone);
}

// Prompts between those that decode take a token too: neighbours are computed together (decoder.h), and a gap
// would part them.
void Scheduler::FillGaps() {
  const auto planned = [](const auto& slot) { return slot && slot->planned > 0; };
  const auto first = std::find_if(running_.begin(), running_.end(), planned);
  const auto end = std::find_if(running_.rbegin(), running_.rend(), planned).base();
  for (auto it = first; it != end; ++it) {
    auto& slot = *it;
    if (!slot || !OfStep(*slot) || slot->planned > 0 || !slot->choice->prefilling() || slot->job->credit == 0)
      continue;
    const bool last = slot->choice->missing() == 1;
    if (last && !slot->job->Reserve()) continue;
    slot->planned = 1;
    slot->sample = last;
    ++decoding_;
  }
}

// Where credit does not reach for all choices of a request, the shortest goes on.
bool Scheduler::MustWait(const Slot& slot) const {
  if (slot.job->credit >= slot.job->choices.size()) return false;
  return std::any_of(running_.begin(), running_.end(), [&](const auto& other) {
    return other && other->job == slot.job && other->choice->generated() < slot.choice->generated();
  });
}

void Scheduler::PlanPrefill() {
  const TimePoint now = now_();
  const auto rank = [&](const Slot* s) {
    const ChunkBudget::Seconds left = budget_.Prefill(s->choice->missing());
    return std::tuple(s->job->request->priority, left - (now - s->admitted), s->order, s->choice->index());
  };
  std::vector<Slot*> slots;
  for (auto& slot : running_)
    if (slot && OfStep(*slot) && slot->choice->prefilling() && !WaitsForSeat(*slot, now))
      slots.push_back(&*slot);
  std::sort(slots.begin(), slots.end(), [&](const Slot* a, const Slot* b) { return rank(a) < rank(b); });
  const uint32_t budget = budget_.Tokens(Decoding());
  for (Slot* slot : slots) {
    if (prompt_ >= budget) break;
    const uint32_t missing = slot->choice->missing(), prompt = slot->choice->missing_prompt();
    const uint32_t chunk = Chunk(prompt, missing - prompt, budget - prompt_);
    // Not what others leave of the step, where that is too little for a tile.
    if (prompt_ > 0 && chunk < kTileRows && prompt >= kTileRows) continue;
    const bool last = chunk == missing;
    if (slot->job->credit == 0 || (last && !slot->job->Reserve())) continue;
    slot->planned = chunk;
    slot->sample = last;
    prompt_ += chunk;
  }
}

void Scheduler::AddRows() {
  for (uint32_t sequence = 0; sequence < running_.size(); ++sequence) {
    auto& slot = running_[sequence];
    if (!slot) continue;
    for (uint32_t i = 0; i < slot->planned; ++i) {
      const uint32_t position = slot->choice->computed() + i;
      const auto tokens = slot->choice->tokens();
      const bool guessed = position >= tokens.size();
      slot->row = rows_.size();
      rows_.push_back({sequence, position, guessed ? slot->guess[position - tokens.size()] : tokens[position],
                       slot->sample && (i + 1 == slot->planned || !slot->guess.empty())});
    }
  }
}

std::vector<uint64_t> Scheduler::Planned() const {
  std::vector<uint64_t> ids;
  for (const auto& slot : running_)
    if (slot && slot->planned > 0) ids.push_back(slot->job->request->id);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

void Scheduler::Compute(const std::atomic<bool>& abort, Events* events) {
  for (const Slot& slot : std::exchange(empty_, {})) Emit(slot, events);
  if (rows_.empty()) return MatchHeld(true, events);
  const TimePoint start = now_();
  for (auto& slot : running_)
    if (slot && slot->planned > 0) slot->choice->Started(start);
  ++stats_.steps;
  decoder_.SetAdapter(adapter_);
  if (const DecodeResult result = decoder_.Decode(rows_, abort); result != DecodeResult::kOk)
    return Fail(result, events);
  const TimePoint end = now_();
  const auto rows = static_cast<uint32_t>(rows_.size());
  budget_.Report(rows - prompt_, prompt_, end - start);
  if (decoding_ == 1 && !changed_) guess_length_.Report(rows, end - start);
  MatchHeld(false, events);
  for (uint32_t sequence = 0; sequence < running_.size(); ++sequence)
    if (running_[sequence] && running_[sequence]->planned > 0) Advance(sequence, end, events);
}

void Scheduler::Advance(uint32_t sequence, TimePoint now, Events* events) {
  const Slot slot = *running_[sequence];
  Choice& choice = *slot.choice;
  if (!slot.guess.empty()) return Verify(sequence, now, events);
  const bool prefilling = choice.prefilling();
  if (prefilling) stats_.prefilled += slot.planned;
  cache_.Append(sequence, choice.tokens().subspan(choice.computed(), slot.planned));
  choice.Computed(slot.planned);
  if (slot.sample) Sample(sequence, prefilling, decoder_.Logits(slot.row), now, events);
}

void Scheduler::Free(uint32_t sequence) {
  running_[sequence].reset();
  cache_.Release(sequence);
}

void Scheduler::End(Job* job, const cyllm_error* error, Events* events) {
  for (uint32_t sequence = 0; sequence < running_.size(); ++sequence)
    if (running_[sequence] && running_[sequence]->job == job) Free(sequence);
  std::erase_if(away_, [&](const auto& away) {
    if (away.second.slot.job != job) return false;
    lane_->Cancel(away.first);
    return true;
  });
  std::erase_if(waiting_, [&](const Slot& slot) { return slot.job == job; });
  std::erase_if(ending_, [&](const Slot& slot) { return slot.job == job; });
  const uint64_t id = job->request->id;
  events->End(id, error);
  jobs_.erase(id);
}

void Scheduler::Fail(DecodeResult result, Events* events) {
  cyllm_error error{};
  error.size = sizeof error;
  if (result == DecodeResult::kAborted) {
    sdk::Fail(&error, CYLLM_CANCELLED, "cancelled", "cancelled");
  } else {
    sdk::Fail(&error, CYLLM_INTERNAL, "llama.cpp could not compute a step", "engine_failed", {}, true);
  }
  // What was computed before the step is still there after one that was cut short.
  for (uint32_t sequence = 0; sequence < running_.size(); ++sequence)
    if (const auto& slot = running_[sequence]; slot && slot->planned > 0)
      cache_.Cut(sequence, result == DecodeResult::kAborted ? slot->choice->computed() : 0);
  for (const uint64_t id : Planned()) End(jobs_.at(id).get(), &error, events);
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats out = stats_;
  out.evicted = cache_.evicted();
  std::set<const Job*> jobs;
  const auto count = [&](const Slot& slot) {
    ++out.running;
    out.cells_used += slot.choice->computed();
    jobs.insert(slot.job);
  };
  for (const auto& slot : running_)
    if (slot) count(*slot);
  for (const auto& [ticket, away] : away_) count(away.slot);
  out.requests = static_cast<uint32_t>(jobs.size());
  return out;
}

}  // namespace cyllm::llama
