// One model of the registry: loaded on first use, on a thread of its own; requests that come meanwhile wait
// and hear how far it is.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "inference/event_pipe.h"
#include "inference/service.h"
#include "worker/engine_host/engine_host.h"
#include "worker/models/registry.h"
#include "worker/residency.h"
#include "worker/slot.h"

namespace cyllm {

struct ModelSlotOptions {
  std::string worker;
  std::string model_cache;
  uint32_t threads = 0;
  uint32_t max_waiting = 1024;           // requests that wait for the load; more are refused as overloaded
  std::shared_ptr<PrefixLog> prefixes;   // of the worker; may be null
  std::shared_ptr<Residency> residency;  // of the worker; may be null: there is always room
  Millis retry_after_failure{10'000};    // a failed load is tried again by the first request after so long
  StallLimits stall;
};

class ModelSlot : public Slot, public Resident, public std::enable_shared_from_this<ModelSlot> {
 public:
  ModelSlot(ModelEntry entry, Manifest manifest, ModelSlotOptions options);
  ~ModelSlot() override;  // Close(now)

  EventStream Infer(Request request, Context context) override;
  void StartLoad() override;
  void Unload() override;
  bool UnloadIfIdle() override;
  TimePoint last_used() override;
  void Close(TimePoint until) override;
  ModelInfo Describe() const override;
  void Watch(TimePoint now) override;
  struct Load load() const override;
  bool was_loaded() const override;
  const std::string& id() const override { return entry_.id; }
  const std::string& engine() const override { return entry_.engine; }

 private:
  friend class LoadingStream;
  // The engine; or, while it loads, a stream of Progress whose end says how that went; or an error.
  struct Lookup {
    std::shared_ptr<EngineHost> host;
    EventStream loading;
    Status error;
  };
  Lookup Find(const Executor& home);
  void StartLoading() CY_REQUIRES(mutex_);
  void RunInBackground(std::function<void()> f) CY_REQUIRES(mutex_);
  void RunLoad();
  Result<std::shared_ptr<EngineHost>> LoadEngine();
  bool Wanted();
  void UnloadNow() CY_REQUIRES(mutex_);
  bool OnProgress(double fraction, std::string_view detail);

  const ModelEntry entry_;
  const Manifest manifest_;
  const ModelSlotOptions options_;
  const uint64_t expected_bytes_;  // 0: not known

  mutable Mutex mutex_;
  ModelState state_ CY_GUARDED_BY(mutex_) = ModelState::kAvailable;
  std::shared_ptr<EngineHost> host_ CY_GUARDED_BY(mutex_);
  Status failure_ CY_GUARDED_BY(mutex_);
  TimePoint failed_at_ CY_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<EventPipe>> waiting_ CY_GUARDED_BY(mutex_);
  struct Background {
    std::thread thread;
    std::shared_ptr<std::atomic<bool>> done;
  };
  std::vector<Background> background_ CY_GUARDED_BY(mutex_);  // a load, unloads
  std::vector<std::weak_ptr<EngineHost>> unloading_ CY_GUARDED_BY(mutex_);
  Progress told_ CY_GUARDED_BY(mutex_);
  ModelInfo loaded_ CY_GUARDED_BY(mutex_);  // as it was when it was last loaded
  TimePoint last_used_ CY_GUARDED_BY(mutex_) = TimePoint::min();
  bool asked_to_load_ CY_GUARDED_BY(mutex_) = false;  // by StartLoad: also when no request waits
  bool was_loaded_ CY_GUARDED_BY(mutex_) = false;
  bool closed_ CY_GUARDED_BY(mutex_) = false;
};

}  // namespace cyllm
