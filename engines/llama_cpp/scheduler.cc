#include "llama_cpp/scheduler.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace cyllm::llama {

namespace {

// Prompt tokens above which copying a whole sequence is cheaper than computing them again.
constexpr uint32_t kWorthCopying = 32;

}  // namespace

struct Scheduler::Job {
  std::unique_ptr<Request> request;
  std::vector<std::unique_ptr<Choice>> choices;
  uint64_t credit = 0;    // events that may be sent
  uint32_t reserved = 0;  // of them, for this step
  uint32_t unfinished = 0;

  bool Reserve() {
    if (reserved >= credit) return false;
    ++reserved;
    return true;
  }
};

bool Scheduler::First::operator()(const Slot& a, const Slot& b) const {
  const auto key = [](const Slot& s) {
    return std::tuple(s.job->request->priority, s.order, s.choice->index());
  };
  return key(a) < key(b);
}

Scheduler::Scheduler(Decoder& decoder, const Vocabulary& vocabulary, uint32_t prefill_chunk, Now now)
    : decoder_(decoder),
      vocabulary_(vocabulary),
      prefill_chunk_(prefill_chunk),
      now_(std::move(now)),
      running_(decoder.max_sequences()) {}

Scheduler::~Scheduler() = default;

void Scheduler::Add(std::unique_ptr<Request> request, Events* events) {
  auto job = std::make_unique<Job>();
  job->request = std::move(request);
  const Request& r = *job->request;
  job->credit = r.credit;
  job->unfinished = r.choices;
  events->Add(r.id, CYLLM_EVENT_ACCEPTED).prompt_tokens = static_cast<uint32_t>(r.prompt.size());
  for (uint32_t i = 0; i < r.choices; ++i) {
    job->choices.push_back(std::make_unique<Choice>(r, i, vocabulary_));
    waiting_.insert(Slot{job.get(), job->choices.back().get(), arrivals_});
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
  for (auto& [id, job] : jobs_) job->reserved = 0;
  for (auto& slot : running_)
    if (slot) slot->planned = 0;
  Admit();
  PlanDecoding();
  PlanPrefill();
  AddRows();
  return !rows_.empty() || !empty_.empty();
}

void Scheduler::Admit() {
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const Slot& slot = *it;
    if (slot.job->request->max_tokens == 0) {
      if (slot.job->request->echoed.empty() || slot.job->Reserve()) {
        empty_.push_back(slot);
        it = waiting_.erase(it);
      } else {
        ++it;
      }
      continue;
    }
    const auto free = std::find(running_.begin(), running_.end(), std::nullopt);
    if (free == running_.end()) return;
    if (!Start(slot, static_cast<uint32_t>(free - running_.begin()))) {
      ++it;
      continue;
    }
    *free = slot;
    it = waiting_.erase(it);
  }
}

// Choices of one request share the work on its prompt: the first computes it, the others copy.
bool Scheduler::Start(const Slot& slot, uint32_t sequence) {
  if (slot.job->credit == 0) return false;
  const auto prompt = static_cast<uint32_t>(slot.job->request->prompt.size());
  if (slot.job->choices.size() == 1 || prompt < kWorthCopying || !decoder_.can_copy()) return true;
  bool computing = false;
  for (uint32_t donor = 0; donor < running_.size(); ++donor) {
    if (!running_[donor] || running_[donor]->job != slot.job) continue;
    if (running_[donor]->choice->computed() >= prompt) {
      decoder_.Copy(donor, sequence);
      decoder_.Truncate(sequence, prompt - 1);  // the last token's logits are needed again
      slot.choice->Computed(prompt - 1);
      return true;
    }
    computing = true;
  }
  return !computing;
}

void Scheduler::PlanDecoding() {
  for (auto& slot : running_) {
    if (!slot || slot->choice->prefilling() || MustWait(*slot) || !slot->job->Reserve()) continue;
    slot->planned = 1;
    slot->sample = true;
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
  std::vector<Slot*> slots;
  for (auto& slot : running_)
    if (slot && slot->choice->prefilling()) slots.push_back(&*slot);
  std::sort(slots.begin(), slots.end(), [](const Slot* a, const Slot* b) { return First()(*a, *b); });
  uint32_t budget = prefill_chunk_;
  for (Slot* slot : slots) {
    const uint32_t chunk = std::min(budget, slot->choice->missing());
    const bool last = chunk == slot->choice->missing();
    if (chunk == 0 || slot->job->credit == 0 || (last && !slot->job->Reserve())) continue;
    slot->planned = chunk;
    slot->sample = last;
    budget -= chunk;
  }
}

void Scheduler::AddRows() {
  for (uint32_t sequence = 0; sequence < running_.size(); ++sequence) {
    auto& slot = running_[sequence];
    if (!slot) continue;
    for (uint32_t i = 0; i < slot->planned; ++i) {
      const uint32_t position = slot->choice->computed() + i;
      slot->row = rows_.size();
      rows_.push_back(
          {sequence, position, slot->choice->at(position), slot->sample && i + 1 == slot->planned});
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
  for (const Slot& slot : std::exchange(empty_, {})) {
    slot.choice->Finish(CYLLM_FINISH_LENGTH);
    Emit(slot, events);
  }
  if (rows_.empty()) return;
  const TimePoint start = now_();
  for (auto& slot : running_)
    if (slot && slot->planned > 0) slot->choice->Started(start);
  ++stats_.steps;
  if (const DecodeResult result = decoder_.Decode(rows_, abort); result != DecodeResult::kOk)
    return Fail(result, events);
  const TimePoint end = now_();
  for (uint32_t sequence = 0; sequence < running_.size(); ++sequence) {
    if (!running_[sequence] || running_[sequence]->planned == 0) continue;
    const Slot slot = *running_[sequence];
    if (slot.choice->prefilling()) stats_.prefilled += slot.planned;
    slot.choice->Computed(slot.planned);
    if (!slot.sample) continue;
    slot.choice->Next(decoder_.Logits(slot.row), end);
    ++stats_.generated;
    if (slot.choice->finished()) Free(sequence);
    Emit(slot, events);
  }
}

void Scheduler::Emit(const Slot& slot, Events* events) {
  Job* job = slot.job;
  Choice& choice = *slot.choice;
  const uint64_t id = job->request->id;
  if (std::optional<Delta> delta = choice.output().Take()) {
    events->Text(id, choice.index(), std::move(*delta));
    --job->credit;
  }
  if (!choice.finished()) return;
  cyllm_event& event = events->Add(id, CYLLM_EVENT_FINISHED, choice.index());
  event.finish_reason = choice.reason();
  event.end = choice.output().end();
  event.stop_match = events->Keep(choice.output().stop_match().value_or(std::string()));
  event.prompt_tokens = static_cast<uint32_t>(job->request->prompt.size());
  event.completion_tokens = choice.generated();
  event.queue_ms = choice.queue_ms();
  event.ttft_ms = choice.ttft_ms();
  event.decode_ms = choice.decode_ms();
  if (--job->unfinished == 0) End(job, nullptr, events);
}

void Scheduler::Free(uint32_t sequence) {
  running_[sequence].reset();
  decoder_.Truncate(sequence, 0);
}

void Scheduler::End(Job* job, const cyllm_error* error, Events* events) {
  for (uint32_t sequence = 0; sequence < running_.size(); ++sequence)
    if (running_[sequence] && running_[sequence]->job == job) Free(sequence);
  std::erase_if(waiting_, [&](const Slot& slot) { return slot.job == job; });
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
  for (const uint64_t id : Planned()) End(jobs_.at(id).get(), &error, events);
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats out = stats_;
  std::set<const Job*> jobs;
  for (const auto& slot : running_) {
    if (!slot) continue;
    ++out.running;
    out.cells_used += slot->choice->computed();
    jobs.insert(slot->job);
  }
  out.requests = static_cast<uint32_t>(jobs.size());
  return out;
}

}  // namespace cyllm::llama
