// Several services as one: each request is given to one of them, chosen by a policy; what fails before its
// first delta is tried on another; what finds all of them overloaded waits its turn. The coordinator over its
// workers, the gateway over its coordinators. Queue, Retry and Pick of the design are here.
//
// A pick sees a table that is made anew only when backends or their models change; loads are single numbers
// that each report sets. Nothing is copied per request but a few words per candidate.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "inference/breaker.h"
#include "inference/fullness.h"
#include "inference/service.h"
#include "inference/stream_group.h"
#include "inference/wait_queue.h"

namespace cyllm {

// What a policy sees of one backend that could take the request.
struct WorkerView {
  uint32_t index = 0;     // into the fleet's table
  uint32_t slot = 0;      // of this registration; never reused
  uint64_t id = 0;        // hash of the name: the same in every replica
  uint32_t load = 0;      // requests running or waiting there: as reported, or ours where that is more
  uint32_t capacity = 0;  // run together; 0: not known
  uint32_t context = 0;   // tokens; 0: not known
  uint32_t prefill =
      0;  // blocks of prompt sent there whose answers have not begun, as far as it is known here
};

struct Decision {
  size_t chosen = 0;        // into the candidates
  const char* policy = "";  // static: for the route receipt
  float prefix_hit = 0;     // share of the prompt expected to be there
  uint32_t prefill = 0;     // blocks of it that are not
};

// The policy of a fleet. Thread-safe. Candidates are never empty; `turn` counts the requests.
class Picker {
 public:
  virtual ~Picker() = default;
  virtual Decision Pick(const RequestFacts& facts, std::span<const WorkerView> candidates, uint64_t turn) = 0;
  // A backend says what came into and left its prefix caches.
  virtual void Report(uint32_t slot, const PrefixChanges& changes) {
    (void)slot;
    (void)changes;
  }
};

struct FleetOptions {
  std::shared_ptr<Picker> picker;  // null: the first in the order they were added
  uint32_t max_attempts = 3;       // per request, before its first delta
  BreakerOptions breaker;
  WaitQueueOptions queue;
  // Who says `overloaded` is asked again when something has ended there. Not where the backends are fleets,
  // which queue and go on elsewhere themselves: their refusal is final, after all others were asked (but an
  // answer that has begun waits), and a worker that they lost is not their fault.
  bool of_fleets = false;
  Millis lost_silence{5'000};     // streams of a backend that is gone, without an event: they are lost
  Millis return_patience{5'000};  // a backend that is lost may be back so soon: who needs it, waits
};

class Fleet : public InferenceService, public std::enable_shared_from_this<Fleet> {
 public:
  // One backend; what is not const is thread-safe by itself.
  struct Backend {
    Backend(std::string n, std::shared_ptr<InferenceService> s, bool l, uint32_t number,
            const BreakerOptions& breaking);
    const std::string name;
    const std::shared_ptr<InferenceService> service;
    const bool live;  // described anew for every request
    // Of this registration and, where it was lost and is back, of this connection: what routing knew of it is
    // forgotten with the number.
    std::atomic<uint32_t> slot;
    const uint64_t id;
    std::atomic<uint32_t> reported{0}, capacity{0}, inflight{0}, prefill{0};
    std::atomic<bool> draining{false};
    std::atomic<bool> standby{false};  // the same process is asked through another backend
    bool shut() const {                // takes no new requests
      return draining.load(std::memory_order_relaxed) || standby.load(std::memory_order_relaxed);
    }
    Fullness full;
    std::atomic<int64_t> vacated{0};  // when something that ran there ended: Clock ticks
    std::atomic<int64_t> back_by{0};  // it was lost and may be back until then: Clock ticks
    std::atomic<uint64_t> served{0}, failed{0};
    StreamGroup streams;
    Mutex mutex;
    Breaker breaker CY_GUARDED_BY(mutex);
    std::atomic<bool> suspect{false};  // the breaker is not closed: ask it
    uint64_t prefix_cursor CY_GUARDED_BY(mutex) = 0;
  };
  struct Row {
    std::shared_ptr<Backend> backend;
    std::shared_ptr<const Snapshot> snapshot;  // loads apart: those are in the backend
  };
  struct Table {
    std::vector<Row> rows;
    std::unordered_map<std::string, std::vector<uint32_t>> by_model;  // that have it, failed or not
    std::vector<uint32_t> live, silent;  // described anew; old peers that do not list their models
    // `default` and its like, where all that know the name mean the same model by it.
    std::unordered_map<std::string, std::string> aliases;
    // Models that somebody had and nobody lists now: when they were last listed. Forgotten after kRemembered;
    // kMaxRemembered at most.
    std::unordered_map<std::string, TimePoint> remembered;

    bool Remembers(const std::string& model, TimePoint now) const;
    const std::string& MeantBy(const std::string& model) const;
  };

  static constexpr Millis kRemembered{3'600'000};
  static constexpr size_t kMaxRemembered = 4'096;

  static std::shared_ptr<Fleet> Make(FleetOptions options);
  static uint64_t IdOfName(const std::string& name);  // Backend::id

  // A backend whose changes are told by Refresh; with `live`, it is described anew for every request instead.
  // Nobody asks it before Add.
  std::shared_ptr<Backend> NewBackend(std::string name, std::shared_ptr<InferenceService> service,
                                      bool live = false);
  void Add(std::shared_ptr<Backend> backend, const Backend* instead_of = nullptr);
  void Add(std::string name, std::shared_ptr<InferenceService> service, bool live = false) {
    Add(NewBackend(std::move(name), std::move(service), live));
  }
  void Remove(const InferenceService* service);
  void Refresh(const InferenceService* service);
  // It is lost, and its like may be added in its place: the row stays, for who would wait for that one. Until
  // when; then it is to be removed.
  TimePoint Lose(const InferenceService* service);

  EventStream Infer(Request request, Context context) override;
  size_t CountReady() const;  // backends that would be asked now
  // Models of all, sorted, best state each; loads added up; ready when one is.
  Snapshot Describe() const override;

  // To be called about twice a second: hands the backends' reports to the picker, and ends the streams of
  // backends that are gone without a word (old peers).
  void Check(TimePoint now);

  std::shared_ptr<const Table> table() const;  // an immutable picture
  const WaitQueue& queue() const { return queue_; }

 private:
  friend class FleetStream;
  explicit Fleet(FleetOptions options);
  void Change(const std::function<void(std::vector<Row>&)>& f);
  static std::shared_ptr<Table> Index(std::vector<Row> rows);
  static void Remember(const Table& before, TimePoint now, Table& table);

  const FleetOptions options_;
  WaitQueue queue_;
  std::atomic<uint64_t> turn_{0};
  std::atomic<uint32_t> next_slot_{1};
  Mutex refresh_mutex_;  // of two that refresh at once, the later look at the service is what stays
  mutable Mutex mutex_;
  std::shared_ptr<const Table> table_ CY_GUARDED_BY(mutex_);
};

// What a request wants of the fleet, row by row.
struct Candidates {
  std::vector<WorkerView> views;  // of the best class that is not empty
  bool all_full = false;          // none, but some that suit are overloaded now
  bool returning = false;         // none that is able, but one was lost that may be back soon
  Status refusal;                 // with none at all: what the client is told
};

// What the request has met so far.
struct Tries {
  std::vector<uint32_t> slots;  // where it has failed already
  uint32_t too_short = 0;       // a context of so many tokens did not hold it

  uint64_t Hash() const;  // 0: nothing yet
};

// A worker whose context looks too short by RequestFacts' estimate is asked after the others, never left out:
// only an engine that counted and said so (Tries::too_short) excludes it and those with no more.
Candidates FindCandidates(const Fleet::Table& table, const RequestFacts& facts, const Tries& tries,
                          TimePoint now);

}  // namespace cyllm
