// Where requests wait when every worker says `overloaded`: bounded per model, answered requests that resume
// first, then by priority (lower first), then in the order they came. A request keeps its ticket, and so its
// place, until a worker takes it. Who finds nobody that can take it (its adapter is on a worker that is full)
// holds up those that want the same, not those that others could take.
// Thread-safe; knows no transport and no coroutine but the waiter's Signal.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>

#include "async/signal.h"
#include "base/mutex.h"
#include "inference/request.h"

namespace cyllm {

// Where fairness between tenants goes: who of one priority is first, by what was charged to whom.
// Thread-safe.
class QueueOrder {
 public:
  virtual ~QueueOrder() = default;
  // Of a request that enters; smaller goes first.
  virtual uint64_t Turn(const RequestFacts& facts) = 0;
  // Tokens computed for a tenant, each once: of a request that goes on elsewhere, those past its offsets.
  virtual void Charge(const std::string& tenant, uint64_t tokens) = 0;
};

struct WaitQueueOptions {
  size_t max_waiting = 1'024;                   // per model
  std::shared_ptr<QueueOrder> order = nullptr;  // null: in the order they came
};

class WaitQueue {
 public:
  using Rank = std::tuple<bool, int32_t, uint64_t, uint64_t>;  // begun before, priority, turn, number
  // A place in the queue. The owner waits for `signal`, then tries while IsTurn.
  struct Ticket {
    Ticket(Executor home, TimePoint now) : signal(std::move(home)), since(now) {}
    Signal signal;
    const TimePoint since;
    std::string model;
    Rank rank;  // smaller goes first
    // Under the queue's lock:
    uint64_t wants = 0;    // hash of what decides who can take it
    uint64_t besides = 0;  // part of it: NobodyTakes
    bool trying = false;
    uint64_t tried_at = 0;  // Line::changes, when it began to
  };

  explicit WaitQueue(WaitQueueOptions options) : options_(options) {}

  // `model`: what all names that the request may have given it stand for. RESOURCE_EXHAUSTED would be the
  // client's limit; a full queue, or a deadline that the estimate says cannot be met, is UNAVAILABLE
  // (overloaded) with the estimate as retry_after.
  Result<std::shared_ptr<Ticket>> Enter(const std::string& model, const RequestFacts& facts, Executor home,
                                        TimePoint now, TimePoint deadline);
  void Leave(const std::shared_ptr<Ticket>& ticket);

  // Nobody waits before it but who is trying already, or wants what nobody can give now. True marks it as
  // trying.
  bool TakeTurn(const std::shared_ptr<Ticket>& ticket);
  void GiveTurnBack(const std::shared_ptr<Ticket>& ticket);  // refused by one: it keeps its place
  // Nobody can take it now; the next one that wants something else may try. `besides`: what decided that
  // beside its facts, as a hash; 0: nothing.
  void NobodyTakes(const std::shared_ptr<Ticket>& ticket, uint64_t besides = 0);

  // A request of the model has left a worker: capacity may show. Wakes the first that waits. The pace is that
  // of those which `ran` there (and were not refused), while somebody waits.
  void Departed(const std::string& model, TimePoint now, bool ran);
  void WakeAll();  // the fleet has changed
  void Charge(const std::string& tenant, uint64_t tokens) {
    if (options_.order) options_.order->Charge(tenant, tokens);
  }

  bool empty(const std::string& model) const;
  size_t waiting(const std::string& model) const;
  size_t waiting() const;
  // How long the `position`-th waiter (from 0) will wait, by the pace at which requests end; 0: not known.
  Millis Estimate(const std::string& model, size_t position) const;

 private:
  struct Line {
    std::map<Rank, std::shared_ptr<Ticket>> tickets;
    uint64_t changes = 0;       // times that capacity may have shown
    std::set<uint64_t> nobody;  // Ticket::wants that nobody can give since the last change
    TimePoint last_end = TimePoint::min();
    double interval_ms = 0;  // between ends while somebody waits, smoothed
  };
  Millis EstimateOf(const Line& line, size_t position) const CY_REQUIRES(mutex_);
  void WakeFirst(Line& line) CY_REQUIRES(mutex_);
  void Changed(Line& line) CY_REQUIRES(mutex_);

  const WaitQueueOptions options_;
  mutable Mutex mutex_;
  std::map<std::string, Line> lines_ CY_GUARDED_BY(mutex_);
  uint64_t next_ CY_GUARDED_BY(mutex_) = 0;
};

}  // namespace cyllm
