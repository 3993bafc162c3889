// One loaded engine as an InferenceService's half: requests in, its events out as streams.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/mutex.h"
#include "inference/event_pipe.h"
#include "inference/service.h"
#include "sdk/engine.h"
#include "worker/engine_host/engine_metrics.h"
#include "worker/engine_host/plugin.h"
#include "worker/engine_host/stall_watch.h"

namespace cyllm {

// Thread-safe. Destroying it ends what still runs and blocks until the engine is gone.
class EngineHost : public std::enable_shared_from_this<EngineHost> {
 public:
  // How far loading is; false stops it. Called on the loading thread.
  using Progress = std::function<bool(double fraction, std::string_view detail)>;

  // Loads plugin and model; blocks. `config_json` as cyllm_engine_api.create says; `worker` is said in
  // Accepted. With `model` the engine's metrics are called so.
  static Result<std::shared_ptr<EngineHost>> Load(const Manifest& manifest, const std::string& config_json,
                                                  std::string worker, const Progress& progress,
                                                  std::shared_ptr<PrefixLog> prefixes = nullptr,
                                                  const std::string& model = {}, StallLimits stall = {});
  ~EngineHost();

  EventStream Infer(const Request& request, const Context& context);

  uint32_t capabilities() const { return static_cast<uint32_t>(description_.capabilities); }
  uint32_t max_model_len() const { return description_.max_model_len; }
  std::string digest() const { return description_.digest; }
  uint64_t memory_bytes() const { return description_.memory_bytes; }  // 0: not known
  struct Load load() const;
  bool idle() const;  // no request runs or waits

  // To be called about twice a second. When the engine hangs, its requests end with an error that may be
  // tried again, and new ones are refused until it moves, or for a minute: then it may try.
  void Watch(TimePoint now);
  bool stalled() const;
  size_t paused() const;  // requests whose readers have yet to read before more is produced

  // New requests are refused; blocks until running ones are done, or cancels them at `until`. Called again,
  // the earlier `until` counts.
  void Drain(TimePoint until);
  // Ready when the engine is gone, whoever had the last reference. To be called once.
  std::future<void> gone() { return gone_.get_future(); }

 private:
  class Listener;
  struct Running {
    std::shared_ptr<EventPipe> pipe;
    bool generates = false;  // by steps of the engine
    bool begun = false;      // it has given a delta
    int64_t credit = 0;      // deltas that it may still give
  };
  EngineHost(const cyllm_engine_api* api, std::string worker, StallLimits stall);
  void Credit(uint64_t id, uint32_t deltas);
  StallWatch::Owes Owes(bool computes) const CY_REQUIRES(mutex_);
  static void OnCache(void* self, const uint64_t* added, size_t n_added, const uint64_t* removed,
                      size_t n_removed);
  static void OnEvents(void* self, const cyllm_event* events, size_t n);
  void Sign(Accepted& accepted) const;
  void Deliver(const cyllm_event* events, size_t n);
  void Deliver(uint64_t id, Batch batch, const cyllm_event* end);
  void Forget(uint64_t id);
  cyllm_stats Stats() const;

  const cyllm_engine_api* const api_;
  const std::string worker_;
  std::shared_ptr<PrefixLog> prefixes_;  // set before the engine is made; may be null
  cyllm_engine* engine_ = nullptr;
  std::promise<void> gone_;
  cyllm_description description_{};
  std::optional<EngineMetrics> metrics_;
  std::atomic<uint64_t> next_id_{1};

  mutable Mutex mutex_;
  CondVar idle_;
  std::unordered_map<uint64_t, Running> running_ CY_GUARDED_BY(mutex_);
  bool draining_ CY_GUARDED_BY(mutex_) = false;

  std::atomic<uint64_t> delivered_{0};  // events
  StallWatch watch_ CY_GUARDED_BY(mutex_);
  TimePoint stalled_until_ CY_GUARDED_BY(mutex_) = TimePoint::min();  // min: it does not hang
  uint64_t stalled_at_ CY_GUARDED_BY(mutex_) = 0;                     // moves
};

}  // namespace cyllm
