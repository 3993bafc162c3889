#include "coordinator/worker_set.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"

namespace cyllm {
namespace {

constexpr Millis kTick{500};
constexpr std::chrono::hours kAway{1};

// In the place of one that is away: nothing of its connection is kept.
struct Nobody : InferenceService {
  EventStream Infer(Request, Context) override {
    return EndedStream(Unavailable("the server is not reachable", "not_connected"));
  }
  Snapshot Describe() const override { return {}; }
};

std::string IdOf(const Fleet::Backend& backend) { return fmt::format("{:016x}", backend.id); }

Status NoWorker(const std::string& id) {
  return MakeStatus(Code::kNotFound, "there is no worker " + id, "worker_not_found");
}

}  // namespace

WorkerSet::WorkerSet(std::shared_ptr<Fleet> fleet, RemoteOptions dial, IoPool& pool)
    : fleet_(std::move(fleet)), dial_(std::move(dial)), pool_(pool), closing_(pool.Next()) {
  scope_.Spawn(closing_.home(), Watch());
}

WorkerSet::~WorkerSet() { Close(); }

void WorkerSet::Close() {
  std::map<std::string, Member> members;
  {
    MutexLock lock(mutex_);
    if (std::exchange(closed_, true)) return;
    members.swap(members_);
  }
  closing_.Notify();
  scope_.Close();
  scope_.Join();
  closers_.RunBlocking([]() -> Task<> { co_return; }());  // what is being closed is closed
  for (auto& [id, member] : members)
    if (member.remote) member.remote->Close();
}

Result<WorkerStatus> WorkerSet::Dial(const std::string& address) {
  const std::string id = fmt::format("{:016x}", Fleet::IdOfName(address));
  {
    MutexLock lock(mutex_);
    if (closed_) return Err(Unavailable("shutting down", "draining"));
    if (members_.contains(id))
      return Err(MakeStatus(Code::kAlreadyExists, "the worker " + address + " is there already"));
    members_[id];  // the place is taken: nobody else dials it meanwhile
  }
  RemoteOptions options = dial_;
  options.address = address;
  auto remote = RemoteService::Make(std::move(options), pool_);
  {
    MutexLock lock(mutex_);
    Member& member = members_[id];
    member.backend = fleet_->NewBackend(address, remote);
    member.remote = remote;
    fleet_->Add(member.backend);
  }
  remote->OnChange([this, raw = remote.get()] { Changed(raw); });
  Changed(remote.get());
  return Find(id);
}

void WorkerSet::Add(const std::string& name, std::shared_ptr<InferenceService> worker, bool local) {
  auto backend = fleet_->NewBackend(name, std::move(worker), local);
  {
    MutexLock lock(mutex_);
    Member& member = members_[IdOf(*backend)];  // a worker that came back before its old connection was lost
    const auto before = member.backend;
    const bool was_lost = std::exchange(member.lost_until, kNever) != kNever;
    if (before) backend->draining = before->draining.load();
    member.backend = std::move(backend);
    member.local = local;
    member.away_until = kNever;
    FindStandbys();
    fleet_->Add(member.backend, was_lost ? before.get() : nullptr);
  }
  CountReady();
}

void WorkerSet::SendAway(Member& member, TimePoint now) {
  auto nobody = fleet_->NewBackend(member.backend->name, std::make_shared<Nobody>());
  nobody->draining = true;
  member.backend = std::move(nobody);
  member.lost_until = kNever;
  member.away_until = now + kAway;
}

void WorkerSet::Forget(const InferenceService* worker, bool left) {
  const TimePoint now = Clock::now();
  bool kept = false;
  {
    MutexLock lock(mutex_);
    const auto is = [&](const auto& entry) {
      return entry.second.backend && entry.second.backend->service.get() == worker;
    };
    const auto it = std::ranges::find_if(members_, is);
    if (it != members_.end()) {
      Member& member = it->second;
      if (member.backend->draining && !member.removing) {
        SendAway(member, now);
      } else if (!member.local && !member.removing && !left && !member.backend->standby) {
        member.lost_until = fleet_->Lose(worker);
        kept = true;
      } else {
        members_.erase(it);
      }
    }
  }
  if (!kept) fleet_->Remove(worker);
  CountReady();
}

void WorkerSet::Changed(const InferenceService* worker) {
  const auto rows = fleet_->table();
  const auto row = std::ranges::find_if(
      rows->rows, [&](const Fleet::Row& r) { return r.backend->service.get() == worker; });
  if (row != rows->rows.end() && row->snapshot->name != worker->Describe().name) {
    MutexLock lock(mutex_);
    FindStandbys();  // before it can be asked: the process may be drained
  }
  fleet_->Refresh(worker);
  CountReady();
}

void WorkerSet::CountReady() {
  MutexLock lock(count_mutex_);
  ready_.Set(static_cast<double>(fleet_->CountReady()));
}

Task<> WorkerSet::Watch() {
  while (!co_await closing_.Wait(Clock::now() + kTick)) Tick(Clock::now());
}

void WorkerSet::Tick(TimePoint now) {
  fleet_->Check(now);
  waiting_.Set(static_cast<double>(fleet_->queue().waiting()));
  std::vector<std::shared_ptr<Fleet::Backend>> late, done, gone;
  std::vector<std::shared_ptr<RemoteService>> connections;
  {
    MutexLock lock(mutex_);
    for (auto it = members_.begin(); it != members_.end();) {
      Member& member = it->second;
      bool forgotten = now >= member.away_until;
      if (now >= member.lost_until) {
        gone.push_back(member.backend);
        forgotten = member.removing || !member.backend->draining;
        if (!forgotten) SendAway(member, now);
      }
      it = forgotten ? members_.erase(it) : std::next(it);
    }
    FindStandbys();
    for (auto& [id, member] : members_) {
      if (member.drain_until == kNever || !member.backend) continue;
      const bool idle = member.backend->inflight == 0;
      if (!idle && now >= member.drain_until && !std::exchange(member.moved, true))
        late.push_back(member.backend);
      if (idle && member.removing) {
        done.push_back(member.backend);
        if (member.remote) connections.push_back(member.remote);
      }
    }
    std::erase_if(members_, [&](const auto& entry) {
      return std::ranges::find(done, entry.second.backend) != done.end() && entry.second.backend;
    });
  }
  for (const auto& backend : late) {
    Log()->info("{}: drain: {} requests move", backend->name, backend->streams.size());
    backend->streams.EndAll(Unavailable("the server is shutting down", "draining"));
  }
  for (const auto& backend : done) {
    Log()->info("{}: removed", backend->name);
    fleet_->Remove(backend->service.get());
  }
  for (const auto& backend : gone) fleet_->Remove(backend->service.get());
  // Closing waits for the connection's tasks, which run on these threads.
  for (auto& connection : connections) Post(closers_.At(0), [c = std::move(connection)] { c->Close(); });
  CountReady();
}

void WorkerSet::FindStandbys() {
  std::map<std::string, Member*> dialled;  // by the name of the process, while connected
  for (auto& [id, member] : members_) {
    if (!member.remote || !member.backend) continue;
    if (std::string name = member.remote->Describe().name; !name.empty())
      dialled.emplace(std::move(name), &member);
  }
  for (auto& [id, member] : members_) {
    if (!member.backend || member.remote || member.local) continue;
    const auto primary = dialled.find(member.backend->name);
    const bool stands_by = primary != dialled.end();
    if (stands_by && !member.backend->standby) {
      Log()->info("{} is dialled too: its registration stands by", member.backend->name);
      if (member.backend->draining) BeginDrain(*primary->second, member.drain_until);
      fleet_->Refresh(primary->second->remote.get());  // one of the two can be asked at any time
    }
    member.primary = stands_by ? IdOf(*primary->second->backend) : "";
    member.backend->standby = stands_by;
  }
}

std::vector<WorkerSet::Member*> WorkerSet::WaysTo(const std::string& id) {
  FindStandbys();
  Member* first = Locate(id);
  if (first && !first->primary.empty()) first = Locate(first->primary);
  if (!first) return {};
  std::vector<Member*> ways = {first};
  for (auto& [other, member] : members_)
    if (member.backend && member.primary == IdOf(*first->backend)) ways.push_back(&member);
  return ways;
}

WorkerSet::Member* WorkerSet::Locate(const std::string& id) {
  auto it = members_.find(id);
  if (it == members_.end()) it = members_.find(fmt::format("{:016x}", Fleet::IdOfName(id)));
  if (it == members_.end() || !it->second.backend) return nullptr;
  return &it->second;
}

Result<WorkerStatus> WorkerSet::Find(const std::string& id) const {
  MutexLock lock(mutex_);
  const Member* member = const_cast<WorkerSet*>(this)->Locate(id);
  if (!member) return Err(NoWorker(id));
  return StatusOf(*member);
}

void WorkerSet::BeginDrain(Member& member, TimePoint until) {
  member.backend->draining = true;
  member.drain_until = until;
  member.moved = false;
}

Result<WorkerStatus> WorkerSet::Drain(const std::string& id, Millis deadline) {
  Result<WorkerStatus> status = Err(NoWorker(id));
  {
    MutexLock lock(mutex_);
    const std::vector<Member*> ways = WaysTo(id);
    for (Member* member : ways) BeginDrain(*member, Clock::now() + deadline);
    if (!ways.empty()) status = StatusOf(*ways.front());
  }
  CountReady();
  return status;
}

Result<WorkerStatus> WorkerSet::Remove(const std::string& id, Millis deadline) {
  Result<WorkerStatus> status = Err(NoWorker(id));
  {
    MutexLock lock(mutex_);
    if (Member* member = Locate(id)) {
      BeginDrain(*member, Clock::now() + deadline);
      member->removing = true;
      status = StatusOf(*member);
    }
  }
  CountReady();
  return status;
}

Result<WorkerStatus> WorkerSet::Undrain(const std::string& id) {
  Result<WorkerStatus> status = Err(NoWorker(id));
  {
    MutexLock lock(mutex_);
    const std::vector<Member*> ways = WaysTo(id);
    for (Member* member : ways) {
      member->backend->draining = false;
      member->drain_until = kNever;
      member->removing = false;
    }
    if (!ways.empty()) status = StatusOf(*ways.front());
    std::erase_if(members_, [&](const auto& entry) {
      return entry.second.away_until != kNever && !entry.second.backend->draining;
    });
  }
  CountReady();
  return status;
}

std::vector<WorkerStatus> WorkerSet::List() const {
  std::vector<WorkerStatus> all;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, member] : members_)
      if (member.backend) all.push_back(StatusOf(member));
  }
  std::ranges::sort(all, {}, &WorkerStatus::name);
  return all;
}

WorkerStatus WorkerSet::StatusOf(const Member& member) const {
  Fleet::Backend& backend = *member.backend;
  const Snapshot snapshot = backend.service->Describe();
  WorkerStatus status;
  status.id = IdOf(backend);
  status.name = backend.name;
  status.process = snapshot.name;
  status.kind = member.remote ? "dialled" : member.local ? "local" : "registered";
  status.healthy = snapshot.ready && !backend.shut() && member.lost_until == kNever;
  status.suspect = backend.suspect;
  status.inflight = backend.inflight;
  status.load = snapshot.load.running + snapshot.load.waiting;
  status.capacity = snapshot.load.max_running;
  status.served = backend.served;
  status.failed = backend.failed;
  for (const ModelInfo& model : snapshot.models) status.models.push_back(model.id);
  if (member.drain_until != kNever)
    status.drain_left =
        std::max(Millis(0), std::chrono::duration_cast<Millis>(member.drain_until - Clock::now()));
  status.job = member.removing                                    ? "removing"
               : member.away_until != kNever                      ? "away"
               : member.lost_until != kNever                      ? "lost"
               : backend.standby                                  ? "standby"
               : backend.draining && backend.inflight == 0        ? "drained"
               : backend.draining                                 ? "draining"
               : snapshot.ready                                   ? "ready"
               : snapshot.models.empty() && snapshot.name.empty() ? "connecting"
                                                                  : "not_ready";
  return status;
}

std::shared_ptr<RemoteService> WorkerSet::Connection(const InferenceService* worker) const {
  MutexLock lock(mutex_);
  for (const auto& [id, member] : members_)
    if (member.remote && member.remote.get() == worker) return member.remote;
  return nullptr;
}

}  // namespace cyllm
