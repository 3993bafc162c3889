// Who could take a request, and what to say when nobody can.
#include <algorithm>

#include "inference/fleet.h"

namespace cyllm {
namespace {

// Better ones first; only the best class that has somebody is asked.
enum Class : uint8_t { kHinted, kGood, kAvoided, kSuspect, kClasses };

bool Named(const std::string& name, const Fleet::Backend& backend, const Snapshot& snapshot) {
  return name == backend.name || (!snapshot.name.empty() && name == snapshot.name);
}

Class ClassOf(const RequestFacts& facts, Fleet::Backend& backend, const Snapshot& snapshot, TimePoint now) {
  if (backend.suspect.load(std::memory_order_relaxed)) {
    MutexLock lock(backend.mutex);
    if (backend.breaker.state(now) == Breaker::State::kOpen) return kSuspect;
    // Half open: a request like any other is the probe.
  }
  for (const std::string& name : facts.avoid_workers)
    if (Named(name, backend, snapshot)) return kAvoided;
  if (!facts.worker_hint.empty() && Named(facts.worker_hint, backend, snapshot)) return kHinted;
  return kGood;
}

struct Search {
  const RequestFacts& facts;
  std::span<const uint32_t> tried;
  TimePoint now;
  std::vector<WorkerView> of[kClasses];
  bool anybody = false, listed = false, known = false, able = false, full = false;
  uint32_t missing = 0;

  void Look(uint32_t index, Fleet::Backend& backend, const Snapshot& snapshot, const Load& load) {
    if (!snapshot.ready || backend.draining.load(std::memory_order_relaxed)) return;
    anybody = true;
    const ModelInfo* model = nullptr;
    if (!snapshot.models.empty()) {
      model = snapshot.Find(facts.model);
      if (!model) return;
    }
    known = true;
    if (!Able(model)) return;
    able = true;
    if (std::ranges::find(tried, backend.slot) != tried.end()) return;
    if (backend.full_until.load(std::memory_order_relaxed) > now.time_since_epoch().count()) {
      full = true;
      return;
    }
    const uint32_t ours = backend.inflight.load(std::memory_order_relaxed);
    of[ClassOf(facts, backend, snapshot, now)].push_back(
        {index, backend.slot, backend.id, std::max(ours, load.running + load.waiting), load.max_running});
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
    if (!resume.choices.empty() && !(model->capabilities & kCapResume)) return false;
    return resume.digest.empty() || model->digest.empty() || model->digest == resume.digest;
  }

  Status Refusal() const {
    if (!anybody) return Unavailable("no worker is available", "no_worker");
    if (!known && !listed)
      return MakeStatus(Code::kNotFound, "Model '" + facts.model + "' not found in registry",
                        "model_not_found", "model");
    if (!able && missing != 0)
      return MakeStatus(Code::kUnimplemented, "the model's engine cannot do what the request needs",
                        "unsupported", missing & kCapTools ? "tools" : "");
    return Unavailable("no worker can take the request now", "no_worker");
  }
};

}  // namespace

Candidates FindCandidates(const Fleet::Table& table, const RequestFacts& facts,
                          std::span<const uint32_t> tried, TimePoint now) {
  Search search{facts, tried, now, {}};
  const auto look = [&](uint32_t index) {
    const Fleet::Row& row = table.rows[index];
    Fleet::Backend& backend = *row.backend;
    search.Look(index, backend, *row.snapshot,
                {backend.reported.load(std::memory_order_relaxed), 0,
                 backend.capacity.load(std::memory_order_relaxed), 0});
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
  for (auto& views : search.of) {
    if (views.empty()) continue;
    found.views = std::move(views);
    return found;
  }
  found.all_full = search.full;
  if (!search.anybody) {  // nobody has the model, but somebody may be there
    for (const Fleet::Row& row : table.rows)
      search.anybody |= row.snapshot->ready && !row.backend->draining.load(std::memory_order_relaxed) &&
                        !row.snapshot->models.empty();
  }
  found.refusal = search.Refusal();
  return found;
}

}  // namespace cyllm
