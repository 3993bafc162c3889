// Who could take a request, and what to say when nobody can.
#include <algorithm>

#include "inference/fleet.h"
#include "inference/prefix_hash.h"

namespace cyllm {
namespace {

// Better ones first; only the best class that has somebody is asked. Tight: its context looks too short for
// the request, by an estimate that may be wrong: the engine, which counts, decides.
// Crowded: the model would take another one's place there, or wait: it stays where it is. Quiet: it may be
// dead, and what is sent there is lost later; rather than that, a request waits for one that is full.
enum Class : uint8_t { kHinted, kGood, kCrowded, kTight, kAvoided, kSuspect, kQuiet, kClasses };

// Tokens of context that the request is expected to need.
uint64_t ExpectedLength(const RequestFacts& facts) {
  uint64_t answered = 0;
  for (const ChoiceResume& choice : facts.resume.choices)
    answered = std::max<uint64_t>(answered, choice.token_ids.size());
  return facts.prompt_tokens_estimate + std::max<uint64_t>(facts.max_tokens.value_or(1), answered + 1);
}

bool Named(const std::string& name, const Fleet::Backend& backend, const Snapshot& snapshot) {
  return name == backend.name || (!snapshot.name.empty() && name == snapshot.name);
}

Class ClassOf(const RequestFacts& facts, Fleet::Backend& backend, const Snapshot& snapshot,
              const ModelInfo* model, TimePoint now) {
  if (snapshot.quiet) return kQuiet;
  if (backend.suspect.load(std::memory_order_relaxed)) {
    MutexLock lock(backend.mutex);
    if (backend.breaker.state(now) == Breaker::State::kOpen) return kSuspect;
    // Half open: a request like any other is the probe.
  }
  for (const std::string& name : facts.avoid_workers)
    if (Named(name, backend, snapshot)) return kAvoided;
  if (!facts.worker_hint.empty() && Named(facts.worker_hint, backend, snapshot)) return kHinted;
  if (model && model->max_model_len > 0 && ExpectedLength(facts) > model->max_model_len) return kTight;
  if (model && model->state == ModelState::kCrowded) return kCrowded;
  return kGood;
}

struct Search {
  const RequestFacts& facts;
  const std::string& meant;  // by its model's name
  const Tries& tries;
  TimePoint now;
  std::vector<WorkerView> of[kClasses];
  bool anybody = false, listed = false, known = false, able = false, full = false, adapter = true,
       returning = false;
  uint32_t missing = 0;

  void Look(uint32_t index, Fleet::Backend& backend, const Snapshot& snapshot, const Load& load) {
    if (backend.shut()) return;
    if (!snapshot.ready) {
      returning |= backend.back_by.load(std::memory_order_relaxed) > now.time_since_epoch().count();
      return;
    }
    anybody = true;
    const ModelInfo* model = nullptr;
    if (!snapshot.models.empty()) {
      model = snapshot.Find(facts.model);
      if (!model) return;
    }
    known = true;
    if (!Able(model)) return;
    able = true;
    const uint32_t context_length = model ? model->max_model_len : 0;
    if (context_length > 0 && context_length <= tries.too_short) return;
    const uint32_t slot = backend.slot.load(std::memory_order_relaxed);
    if (std::ranges::find(tries.slots, slot) != tries.slots.end()) return;
    if (backend.full.Has(meant, now)) {
      full = true;
      return;
    }
    const uint32_t ours = backend.inflight.load(std::memory_order_relaxed);
    of[ClassOf(facts, backend, snapshot, model, now)].push_back(
        {index, slot, backend.id, std::max(ours, load.running + load.waiting), load.max_running,
         context_length, backend.prefill.load(std::memory_order_relaxed)});
  }

  // Null: an old peer that does not list its models.
  bool Able(const ModelInfo* model) {
    const ResumeState& resume = facts.resume;
    if (!model) return resume.digest.empty();
    if (model->state == ModelState::kFailed) return false;
    if (model->capabilities != 0 && (facts.needs & ~model->capabilities) != 0) {
      missing |= facts.needs & ~model->capabilities;
      return false;
    }
    if (!HasAdapter(*model)) {
      adapter = false;
      return false;
    }
    if (!resume.choices.empty() && !(model->capabilities & kCapResume)) return false;
    return resume.digest.empty() || model->digest.empty() || model->digest == resume.digest;
  }

  // One that does not name its adapters may have any.
  bool HasAdapter(const ModelInfo& model) const {
    if (facts.adapter.empty()) return true;
    if (model.capabilities != 0 && !(model.capabilities & kCapLora)) return false;
    return model.adapters.empty() || std::ranges::binary_search(model.adapters, facts.adapter);
  }

  Status Refusal() const {
    if (!anybody) return Unavailable("no worker is available", "no_worker");
    if (!known && !listed)
      return MakeStatus(Code::kNotFound, "Model '" + facts.model + "' not found in registry",
                        "model_not_found", "model");
    if (!able && missing != 0) return CannotDo(missing);
    if (!able && !adapter)
      return MakeStatus(Code::kNotFound, "no worker has this adapter of the model", "adapter_not_found",
                        "adapter");
    return Unavailable("no worker can take the request now", "no_worker");
  }
};

}  // namespace

uint64_t Tries::Hash() const {
  if (slots.empty() && too_short == 0) return 0;
  std::string text = std::to_string(too_short);
  for (const uint32_t slot : slots) text += '/' + std::to_string(slot);
  return Hash64(text);
}

Candidates FindCandidates(const Fleet::Table& table, const RequestFacts& facts, const Tries& tries,
                          TimePoint now) {
  Search search{facts, table.MeantBy(facts.model), tries, now, {}};
  const auto look = [&](uint32_t index) {
    const Fleet::Row& row = table.rows[index];
    Fleet::Backend& backend = *row.backend;
    search.Look(index, backend, *row.snapshot,
                {backend.reported.load(std::memory_order_relaxed), 0,
                 backend.capacity.load(std::memory_order_relaxed)});
  };
  const auto with = table.by_model.find(facts.model);
  if (with != table.by_model.end()) {
    search.listed = true;
    search.of[kGood].reserve(with->second.size());
    for (const uint32_t index : with->second) look(index);
  }
  for (const uint32_t index : table.silent) look(index);
  for (const uint32_t index : table.live) {
    const Snapshot snapshot = table.rows[index].backend->service->Describe();
    search.Look(index, *table.rows[index].backend, snapshot, snapshot.load);
  }
  Candidates found;
  if (search.full) search.of[kQuiet].clear();
  for (auto& views : search.of) {
    if (views.empty()) continue;
    found.views = std::move(views);
    return found;
  }
  found.all_full = search.full;
  found.returning = !search.able && search.returning;
  if (!search.anybody) {  // nobody has the model, but somebody may be there
    for (const Fleet::Row& row : table.rows)
      search.anybody |= row.snapshot->ready && !row.backend->shut() && !row.snapshot->models.empty();
  }
  search.listed |= table.Remembers(facts.model, now);
  found.refusal = search.Refusal();
  return found;
}

}  // namespace cyllm
