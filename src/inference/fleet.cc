#include "inference/fleet.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/log.h"
#include "inference/fleet_stream.h"
#include "inference/prefix_hash.h"

namespace cyllm {

Fleet::Backend::Backend(std::string n, std::shared_ptr<InferenceService> s, bool l, uint32_t number,
                        const BreakerOptions& breaking)
    : name(std::move(n)),
      service(std::move(s)),
      live(l),
      slot(number),
      id(IdOfName(name)),
      breaker(breaking) {}

uint64_t Fleet::IdOfName(const std::string& name) { return Hash64(name); }

Fleet::Fleet(FleetOptions options)
    : options_(std::move(options)), queue_(options_.queue), table_(std::make_shared<const Table>()) {}

std::shared_ptr<Fleet> Fleet::Make(FleetOptions options) {
  return std::shared_ptr<Fleet>(new Fleet(std::move(options)));
}

std::shared_ptr<const Fleet::Table> Fleet::table() const {
  MutexLock lock(mutex_);
  return table_;
}

std::shared_ptr<Fleet::Table> Fleet::Index(std::vector<Row> rows) {
  auto table = std::make_shared<Table>();
  std::map<std::string, std::set<std::string>> meanings;
  for (uint32_t i = 0; i < rows.size(); ++i) {
    if (rows[i].backend->live) {
      table->live.push_back(i);
    } else if (rows[i].snapshot->models.empty()) {
      table->silent.push_back(i);
    } else {
      for (const ModelInfo& model : rows[i].snapshot->models) table->by_model[model.id].push_back(i);
    }
  }
  for (const Row& row : rows)
    for (const ModelInfo& model : row.snapshot->models) meanings[model.id].insert(model.alias_of);
  for (const auto& [name, ids] : meanings)
    if (ids.size() == 1 && !ids.begin()->empty()) table->aliases[name] = *ids.begin();
  table->rows = std::move(rows);
  return table;
}

void Fleet::Remember(const Table& before, TimePoint now, Table& table) {
  const auto keep = [&](const std::string& model, TimePoint listed) {
    if (table.remembered.size() < kMaxRemembered && !table.by_model.contains(model))
      table.remembered.emplace(model, listed);
  };
  for (const auto& [model, rows] : before.by_model) keep(model, now);
  for (const auto& [model, listed] : before.remembered)
    if (before.Remembers(model, now)) keep(model, listed);
}

bool Fleet::Table::Remembers(const std::string& model, TimePoint now) const {
  const auto it = remembered.find(model);
  return it != remembered.end() && now - it->second < kRemembered;
}

const std::string& Fleet::Table::MeantBy(const std::string& model) const {
  const auto alias = aliases.find(model);
  return alias == aliases.end() ? model : alias->second;
}

void Fleet::Change(const std::function<void(std::vector<Row>&)>& f) {
  {
    MutexLock lock(mutex_);
    std::vector<Row> rows = table_->rows;
    f(rows);
    auto table = Index(std::move(rows));
    Remember(*table_, Clock::now(), *table);
    table_ = std::move(table);
  }
  queue_.WakeAll();
}

std::shared_ptr<Fleet::Backend> Fleet::NewBackend(std::string name, std::shared_ptr<InferenceService> service,
                                                  bool live) {
  return std::make_shared<Backend>(std::move(name), std::move(service), live, next_slot_++, options_.breaker);
}

void Fleet::Add(std::shared_ptr<Backend> backend, const Backend* instead_of) {
  auto snapshot = std::make_shared<const Snapshot>(backend->service->Describe());
  Change([&](std::vector<Row>& rows) {
    if (instead_of) std::erase_if(rows, [&](const Row& row) { return row.backend.get() == instead_of; });
    rows.push_back({std::move(backend), std::move(snapshot)});
  });
}

void Fleet::Remove(const InferenceService* service) {
  Change([&](std::vector<Row>& rows) {
    std::erase_if(rows, [&](const Row& row) { return row.backend->service.get() == service; });
  });
}

void Fleet::Refresh(const InferenceService* service) {
  MutexLock in_order(refresh_mutex_);
  const std::shared_ptr<const Table> table = this->table();
  const auto row =
      std::ranges::find_if(table->rows, [&](const Row& r) { return r.backend->service.get() == service; });
  if (row == table->rows.end()) return;
  Snapshot snapshot = service->Describe();
  Backend& backend = *row->backend;
  const uint32_t load = snapshot.load.running + snapshot.load.waiting;
  const bool relieved = load < backend.reported.exchange(load);
  backend.capacity = snapshot.load.max_running;
  if (relieved && backend.full.Clear()) queue_.WakeAll();
  const bool was_gone = !row->snapshot->ready && row->snapshot->models.empty();
  if (was_gone && !snapshot.models.empty()) backend.slot = next_slot_++;
  if (row->snapshot->ready && !snapshot.ready && snapshot.models.empty())  // gone, not merely unwell
    backend.back_by = (Clock::now() + options_.return_patience).time_since_epoch().count();
  snapshot.load = row->snapshot->load;
  if (snapshot == *row->snapshot) return;  // only the load has changed: the table stays
  auto fresh = std::make_shared<const Snapshot>(std::move(snapshot));
  Change([&](std::vector<Row>& rows) {
    for (Row& r : rows)
      if (r.backend->service.get() == service) r.snapshot = fresh;
  });
}

TimePoint Fleet::Lose(const InferenceService* service) {
  MutexLock in_order(refresh_mutex_);
  const TimePoint until = Clock::now() + options_.return_patience;
  auto gone = std::make_shared<Snapshot>();
  gone->not_ready_reasons = {"not connected"};
  Change([&](std::vector<Row>& rows) {
    for (Row& row : rows) {
      if (row.backend->service.get() != service) continue;
      row.backend->back_by = until.time_since_epoch().count();
      row.snapshot = gone;
    }
  });
  return until;
}

EventStream Fleet::Infer(Request request, Context context) {
  if (request.facts.model.empty()) request.facts.model = "default";
  return std::make_unique<FleetStream>(shared_from_this(), std::move(request), std::move(context));
}

size_t Fleet::CountReady() const {
  size_t count = 0;
  for (const Row& row : table()->rows) {
    const bool ready = row.backend->live ? row.backend->service->Describe().ready : row.snapshot->ready;
    count += ready && !row.backend->shut();
  }
  return count;
}

void Fleet::Check(TimePoint now) {
  const std::shared_ptr<const Table> table = this->table();
  for (const Row& row : table->rows) {
    Backend& backend = *row.backend;
    if (options_.picker && table->rows.size() > 1) {  // alone, it is picked without; it keeps its news
      MutexLock lock(backend.mutex);
      const PrefixChanges changes = backend.service->PrefixesSince(backend.prefix_cursor);
      if (!changes.empty()) options_.picker->Report(backend.slot, changes);
    }
    if (backend.streams.size() == 0) continue;
    const bool gone = !row.snapshot->ready && row.snapshot->models.empty() &&
                      row.snapshot->not_ready_reasons == std::vector<std::string>{"not connected"};
    if (!gone || now - backend.streams.last_progress() < options_.lost_silence) continue;
    Log()->warn("{}: the connection was lost: its {} requests move", backend.name, backend.streams.size());
    backend.streams.EndAll(Unavailable("the connection was lost", "connection_lost"));
  }
}

namespace {

// Which of two states of a model says more about the fleet: ready, loading, available, crowded, failed.
int Rank(ModelState state) {
  switch (state) {
    case ModelState::kReady:
      return 4;
    case ModelState::kLoading:
      return 3;
    case ModelState::kAvailable:
      return 2;
    case ModelState::kCrowded:
      return 1;
    case ModelState::kFailed:
      return 0;
  }
  return 0;
}

// As the one of the better state; the longest context and the adapters of all.
void MergeModel(ModelInfo& into, const ModelInfo& other) {
  const uint32_t longest = std::max(into.max_model_len, other.max_model_len);
  std::vector<std::string> adapters;
  std::ranges::set_union(into.adapters, other.adapters, std::back_inserter(adapters));
  if (Rank(other.state) > Rank(into.state)) into = other;
  into.max_model_len = longest;
  into.adapters = std::move(adapters);
}

}  // namespace

Snapshot Fleet::Describe() const {
  Snapshot fleet;
  std::map<std::string, ModelInfo> models;
  std::map<std::string, int> reasons;  // without names: they are addresses, and clients read this
  for (const Row& row : table()->rows) {
    const Backend& backend = *row.backend;
    std::shared_ptr<const Snapshot> snapshot = row.snapshot;
    if (backend.standby) continue;
    if (backend.live) snapshot = std::make_shared<const Snapshot>(backend.service->Describe());
    if (!snapshot->ready || backend.draining) {
      for (const std::string& reason : snapshot->not_ready_reasons) ++reasons[reason];
      if (backend.draining) ++reasons["draining"];
      continue;
    }
    fleet.ready = true;
    fleet.load.running +=
        backend.live ? snapshot->load.running + snapshot->load.waiting : backend.reported.load();
    fleet.load.max_running += backend.live ? snapshot->load.max_running : backend.capacity.load();
    for (const ModelInfo& model : snapshot->models) {
      const auto [it, is_new] = models.try_emplace(model.id, model);
      if (!is_new) MergeModel(it->second, model);
    }
  }
  fleet.load.waiting = static_cast<uint32_t>(queue_.waiting());
  for (auto& [id, model] : models) fleet.models.push_back(std::move(model));
  if (fleet.ready) return fleet;
  for (const auto& [reason, count] : reasons)
    fleet.not_ready_reasons.push_back(count == 1 ? reason
                                                 : reason + " (" + std::to_string(count) + " times)");
  if (reasons.empty()) fleet.not_ready_reasons = {"no worker is connected"};
  return fleet;
}

}  // namespace cyllm
