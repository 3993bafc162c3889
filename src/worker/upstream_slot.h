// A model that a server serves: one that runs somewhere (`url`), or one that we start on the model's first
// use and keep alive.
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "upstream/process/launch.h"
#include "upstream/process/supervisor.h"
#include "upstream/upstream.h"
#include "worker/models/registry.h"
#include "worker/slot.h"
#include "worker/starting_stream.h"

namespace cyllm {

// Keys of a registry entry with such an engine.
std::vector<std::string> UpstreamSlotOptions(const upstream::Profile& profile);

class UpstreamSlot : public Slot, public Startable, public std::enable_shared_from_this<UpstreamSlot> {
 public:
  // Starts nothing. INVALID_ARGUMENT: an option, the URL, or a server that can only be given by URL.
  static Result<std::shared_ptr<UpstreamSlot>> Make(const ModelEntry& entry, const std::string& worker,
                                                    Executor prober);
  ~UpstreamSlot() override;

  EventStream Infer(Request request, Context context) override;
  void StartLoad() override;
  void Unload() override;
  void Close(TimePoint until) override;
  Millis close_grace() const override { return supervisor_ ? supervisor_->stop_grace() : Millis(0); }
  ModelInfo Describe() const override;
  struct Load load() const override;
  bool was_loaded() const override { return was_loaded_; }
  const std::string& id() const override { return id_; }
  const std::string& engine() const override { return engine_; }

 private:
  UpstreamSlot() = default;
  bool Usable() const override;
  Status Trouble() const override;
  EventStream Send(Request request, Context context) override;

  std::string id_, engine_, model_;
  std::shared_ptr<Upstream> upstream_;
  std::unique_ptr<Supervisor> supervisor_;  // null: by URL
  mutable std::atomic<bool> was_loaded_{false};
  std::atomic<bool> closed_{false};
};

}  // namespace cyllm
