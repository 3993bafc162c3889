// A model of the registry, whatever serves it: a plugin in this process (ModelSlot) or one of its own
// (IsolatedSlot), or a server (UpstreamSlot).
#pragma once

#include "inference/service.h"

namespace cyllm {

// Thread-safe.
class Slot {
 public:
  virtual ~Slot() = default;

  virtual EventStream Infer(Request request, Context context) = 0;
  // Starts loading unless it is loaded or loading.
  virtual void StartLoad() = 0;
  // Running requests end first; the model is loaded again by the next request. Does not block.
  virtual void Unload() = 0;
  // Refuses everything from now on, lets running requests end until `until`. Blocks. Idempotent.
  virtual void Close(TimePoint until) = 0;
  // What Close may take beyond `until`: a process of its own is given so long to end.
  virtual Millis close_grace() const { return Millis(0); }

  virtual ModelInfo Describe() const = 0;
  virtual struct Load load() const = 0;
  virtual bool was_loaded() const = 0;  // at least once
  virtual const std::string& id() const = 0;
  virtual const std::string& engine() const = 0;
  // What a process of its own says of its prefix cache; others write into the log themselves.
  virtual void CollectPrefixes(PrefixLog&) {}
  // To be called about twice a second: an engine in this process that hangs loses its requests.
  virtual void Watch(TimePoint) {}
};

}  // namespace cyllm
