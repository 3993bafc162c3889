// A model whose engine runs in a process of its own, a `cy-llm worker` on a Unix socket: what kills it (a
// crash, the system out of memory) or stops it ends its requests only, with an error that may be tried again,
// and it is started again. It has a place in the worker's memory for as long as the process lives: what is
// unloaded is ended.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "async/io_pool.h"
#include "base/mutex.h"
#include "inference/remote_service.h"
#include "upstream/process/supervisor.h"
#include "worker/models/registry.h"
#include "worker/residency.h"
#include "worker/slot.h"
#include "worker/starting_stream.h"

namespace cyllm {

struct IsolatedSlotOptions {
  std::string worker;  // said in Accepted
  std::string engine_dir, model_cache;
  uint32_t threads = 0;
  uint32_t capabilities = 0;             // that the engine may have, by its manifest
  std::shared_ptr<Residency> residency;  // of the worker
  Millis engine_stall{60'000};           // StallLimits::late
};

class IsolatedSlot : public Slot,
                     public Resident,
                     public Startable,
                     public std::enable_shared_from_this<IsolatedSlot> {
 public:
  // Starts nothing. `pool` outlives the slot.
  static std::shared_ptr<IsolatedSlot> Make(ModelEntry entry, const IsolatedSlotOptions& options,
                                            IoPool& pool);
  ~IsolatedSlot() override;

  EventStream Infer(Request request, Context context) override;
  void StartLoad() override;
  void Unload() override;
  bool UnloadIfIdle() override;
  TimePoint last_used() override;
  void Close(TimePoint until) override;
  Millis close_grace() const override { return supervisor_->stop_grace(); }
  ModelInfo Describe() const override;
  struct Load load() const override;
  bool was_loaded() const override { return was_loaded_; }
  const std::string& id() const override { return entry_.id; }
  const std::string& engine() const override { return entry_.engine; }
  void CollectPrefixes(PrefixLog& log) override;

 private:
  friend class UsingStream;
  IsolatedSlot(ModelEntry entry, std::shared_ptr<Residency> residency, IoPool& pool);
  bool Usable() const override;
  Status Trouble() const override;
  EventStream Send(Request request, Context context) override;
  // The supervisor's questions, on its thread.
  bool MayStart(const std::function<bool()>& wanted);
  bool Ready();
  std::string ChildTrouble();
  std::shared_ptr<RemoteService> remote() const;

  const ModelEntry entry_;
  const std::shared_ptr<Residency> residency_;
  IoPool& pool_;
  RemoteOptions to_;
  std::unique_ptr<Supervisor> supervisor_;
  mutable std::atomic<bool> was_loaded_{false};
  std::atomic<bool> closed_{false};
  mutable Mutex mutex_;
  std::shared_ptr<RemoteService> remote_ CY_GUARDED_BY(mutex_);  // from the first use on
  mutable ModelInfo known_ CY_GUARDED_BY(mutex_);                // as it was last seen
  uint64_t prefix_cursor_ CY_GUARDED_BY(mutex_) = 0;
  uint32_t used_by_ CY_GUARDED_BY(mutex_) = 0;  // streams that run or wait
  TimePoint last_used_ CY_GUARDED_BY(mutex_) = TimePoint::min();
  // Of the supervisor's thread.
  bool was_ready_ = false;
  std::optional<TimePoint> lost_;  // since when it has not been heard
};

}  // namespace cyllm
