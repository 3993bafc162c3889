// Which of a worker's models are in memory: room for one that is to be loaded, made by unloading the one that
// was not used for longest; a bound on loading to and fro; models unloaded when nobody has used them for a
// while.
//
// A load waits for its turn in the order they came; one that may not begin yet (its model is still on its way
// out, or came back too often) holds up nobody. It takes another model's place only when that one has
// been there for `min_residency`, and has nothing to do; one that always has something to do gives way (its
// requests end first, new ones wait for their own turn) once the load has waited for `min_residency` too,
// and both for half a second at least: who waited for it gets in.
// Models that come back count against `reloads_per_minute`.
//
// Thread-safe. Never calls a Resident with its lock held.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"

namespace cyllm {

// A model, as far as its place in memory is concerned. Thread-safe.
class Resident {
 public:
  virtual ~Resident() = default;
  virtual const std::string& id() const = 0;
  // When a request last came or ran.
  virtual TimePoint last_used() = 0;
  // Unloads unless requests run or wait; true: it will leave, or is not there. No request is refused for it.
  virtual bool UnloadIfIdle() = 0;
  // Running requests end first. Does not block.
  virtual void Unload() = 0;
};

struct ResidencyOptions {
  uint64_t budget_bytes = 0;        // of all models together; 0: no bound
  Millis min_residency{30'000};     // a loaded model stays for so long before it gives way
  uint32_t reloads_per_minute = 6;  // 0: no bound
};

class Residency {
 public:
  explicit Residency(ResidencyOptions options) : options_(options) {}
  ~Residency() { Stop(); }  // every Enter has returned before
  // No model is looked at any more. Before the first of them goes; idempotent.
  void Stop();

  // Blocks until the model may be loaded, or `wanted` says false (CANCELLED). RESOURCE_EXHAUSTED: it does not
  // fit at all. Then the bytes are the model's until Left.
  Status Enter(Resident* model, uint64_t bytes, const std::function<bool()>& wanted);
  // It is loaded and takes so much; 0: not known, the estimate stays.
  void Loaded(Resident* model, uint64_t bytes);
  // Its memory is free again, or it could not be loaded.
  void Left(Resident* model);

  // A load would begin at once and take nobody's place.
  bool HasRoom(const Resident* model, uint64_t bytes) const;

  // From now on the model is unloaded when it was idle for so long. Not after the first Enter.
  void UnloadWhenIdle(Resident* model, Millis idle);

 private:
  struct Place {
    uint64_t bytes = 0;
    TimePoint since = kNever;  // loaded; kNever: it loads
    bool leaves = false;
  };
  uint64_t Need(const Resident* model, uint64_t estimate) const CY_REQUIRES(mutex_);
  uint64_t Used(bool with_leaving) const CY_REQUIRES(mutex_);
  bool MayLoad(const Resident* model, TimePoint now) const CY_REQUIRES(mutex_);
  // Whose turn it is: passes over who waits for its own old place to become free, or has come back too often.
  Resident* NextInLine(TimePoint now) const CY_REQUIRES(mutex_);
  // Those that have been there for so long.
  std::vector<Resident*> MayLeave(TimePoint now, Millis after) const CY_REQUIRES(mutex_);
  bool Begin(Resident* model, uint64_t bytes, TimePoint now) CY_REQUIRES(mutex_);
  // The place of one that is loaded and stays is marked before its model is told to go: afterwards the model
  // may be back already, in another place. Returns since when it was loaded; kNever: there is no such place.
  TimePoint MarkLeaving(Resident* model);
  bool SendAwayIfIdle(Resident* model);  // true: it leaves, or has left
  void SendAway(const std::vector<Resident*>& models, const std::vector<Resident*>& busy);
  void WatchIdle();

  const ResidencyOptions options_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::map<Resident*, Place, std::less<>> places_ CY_GUARDED_BY(mutex_);
  std::map<Resident*, uint64_t, std::less<>> loaded_before_ CY_GUARDED_BY(mutex_);  // bytes
  std::deque<Resident*> line_ CY_GUARDED_BY(mutex_);
  std::deque<TimePoint> reloads_ CY_GUARDED_BY(mutex_);  // the last ones
  std::map<Resident*, Millis, std::less<>> idle_ CY_GUARDED_BY(mutex_);
  bool over_ CY_GUARDED_BY(mutex_) = false;
  std::thread watch_;
};

}  // namespace cyllm
