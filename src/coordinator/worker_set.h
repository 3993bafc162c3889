// The workers of a coordinator: dialled, registered by themselves, or in this process; added, drained and
// removed while requests run. Owns the connections it dials. Thread-safe.
//
// A drain: no new requests; what runs may end until the deadline; what is left then is moved (Resume, at the
// edge, submits it elsewhere). A worker that is to be removed goes when nothing runs there any more.
//
// A worker that is dialled and registers itself too is one process (names are unique): its registration
// stands by while the dialled connection is up, and a drain of either is a drain of the process.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "async/io_pool.h"
#include "async/scope.h"
#include "async/signal.h"
#include "base/metrics.h"
#include "inference/fleet.h"
#include "inference/remote_service.h"

namespace cyllm {

struct WorkerStatus {
  std::string id;        // 16 hex digits, of the name
  std::string name;      // address, or what it calls itself
  std::string process;   // what it calls itself
  std::string kind;      // "dialled", "registered", "local"
  std::string job;       // "connecting", "ready", "not_ready", "draining", "drained", "away", "removing",
                         // "standby", "lost"
  bool healthy = false;  // would be asked now
  bool suspect = false;  // its circuit breaker is not closed
  uint32_t inflight = 0;
  uint32_t load = 0, capacity = 0;  // as it reports
  uint64_t served = 0, failed = 0;
  std::vector<std::string> models;
  Millis drain_left{-1};  // until what is left moves; negative: no drain
};

class WorkerSet {
 public:
  WorkerSet(std::shared_ptr<Fleet> fleet, RemoteOptions dial, IoPool& pool);
  ~WorkerSet();  // Close()

  // ALREADY_EXISTS: it is there; its status is left as it is.
  Result<WorkerStatus> Dial(const std::string& address);
  void Add(const std::string& name, std::shared_ptr<InferenceService> worker, bool local);
  // A registered one that went away, or a local one. One that was being drained stays in the list for an
  // hour, away: when it is back, it is still drained. One that was lost (it had not said that it left) stays
  // for the fleet's return_patience.
  void Forget(const InferenceService* worker, bool left = false);
  void Changed(const InferenceService* worker);

  // NOT_FOUND. `id` or name.
  Result<WorkerStatus> Find(const std::string& id) const;
  Result<WorkerStatus> Drain(const std::string& id, Millis deadline);
  Result<WorkerStatus> Undrain(const std::string& id);
  Result<WorkerStatus> Remove(const std::string& id, Millis deadline);
  std::vector<WorkerStatus> List() const;

  std::shared_ptr<RemoteService> Connection(const InferenceService* worker) const;  // dialled ones; else null
  void Close();

  // What is to be done as time passes. It does so by itself, about twice a second.
  void Tick(TimePoint now);

 private:
  struct Member {
    std::shared_ptr<Fleet::Backend> backend;
    std::shared_ptr<RemoteService> remote;  // dialled
    bool local = false;
    bool removing = false;
    TimePoint away_until = kNever;  // not kNever: it is not in the fleet, and is forgotten then
    TimePoint lost_until = kNever;  // not kNever: it is waited for
    TimePoint drain_until = kNever;
    bool moved = false;   // the deadline has come
    std::string primary;  // id of the dialled one that is the same process; else empty
  };
  Task<> Watch();
  void CountReady();
  void FindStandbys() CY_REQUIRES(mutex_);
  Member* Locate(const std::string& id) CY_REQUIRES(mutex_);
  // All ways to that process, the one that is asked first; empty: there is none.
  std::vector<Member*> WaysTo(const std::string& id) CY_REQUIRES(mutex_);
  static void BeginDrain(Member& member, TimePoint until);
  void SendAway(Member& member, TimePoint now);
  WorkerStatus StatusOf(const Member& member) const;

  const std::shared_ptr<Fleet> fleet_;
  const RemoteOptions dial_;
  IoPool& pool_;
  IoPool closers_{1, "closer"};
  Scope scope_;
  Signal closing_;
  prometheus::Gauge& ready_ = Gauge("coordinator_workers_healthy", "Workers that can answer a request now");
  prometheus::Gauge& waiting_ =
      Gauge("coordinator_queue_waiting", "Requests that wait because every worker is overloaded");
  Mutex count_mutex_;  // the latest count is what stays in the gauge
  mutable Mutex mutex_;
  std::map<std::string, Member> members_ CY_GUARDED_BY(mutex_);  // by id
  bool closed_ CY_GUARDED_BY(mutex_) = false;
};

}  // namespace cyllm
