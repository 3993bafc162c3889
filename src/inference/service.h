// The one interface between HTTP and the engine. Every box of the graph is an InferenceService, most of them
// wrap others (your server as a function).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "async/task.h"
#include "base/clock.h"
#include "base/status.h"
#include "inference/event.h"
#include "inference/prefix_log.h"
#include "inference/request.h"

namespace cyllm {

struct Context {
  Executor home;  // where the stream is pulled; set by who calls Infer
  TimePoint deadline = kNever;
  std::string request_id;   // for logs, on every line about the request
  std::string traceparent;  // W3C trace context
  std::string tracestate;
};

// For EventSource::Next: only what is there already.
inline constexpr TimePoint kPoll = TimePoint::min();

// One step of a stream.
struct NextResult {
  enum class What : uint8_t { kEvents, kTimeout, kEnd };
  What what = What::kEnd;
  Batch events;  // kEvents: not empty
  Status end;    // kEnd: how the request ended; OK after a Finished for every choice
};

// A running request. Pulled on Context::home only, one Next at a time. Pulling is the back-pressure: who does
// not pull is not produced for. Destroying it cancels the request without waiting (also while nothing was
// pulled yet); never destroy it while a Next is outstanding.
class EventSource {
 public:
  virtual ~EventSource() = default;

  // All events that are there; waits for one until `wake_at` (kPoll: not at all). A timeout loses nothing:
  // call again. After kEnd every further call returns the same end.
  virtual Task<NextResult> Next(TimePoint wake_at) = 0;

  // On home only: makes the outstanding Next, or else the next one that would wait, return kTimeout at once.
  // For readers that wait for something else too (the client's hang-up, credit). Wrappers forward it.
  virtual void Wake() = 0;
};
using EventStream = std::unique_ptr<EventSource>;

// Available: loaded on first use. Crowded: loading it means to wait, or takes another model's place.
enum class ModelState : uint8_t { kAvailable = 0, kLoading = 1, kReady = 2, kFailed = 3, kCrowded = 4 };

struct ModelInfo {
  std::string id;
  std::string engine;
  ModelState state = ModelState::kAvailable;
  uint32_t max_model_len = 0;         // tokens; 0: not known before loading
  uint32_t capabilities = 0;          // Capability bits
  int64_t created = 0;                // unix seconds
  std::string digest;                 // equal digests may resume each other's requests
  std::string alias_of;               // not empty: another name of that id (`default`)
  std::vector<std::string> adapters;  // names of its LoRA adapters, as far as they are known; sorted
  uint64_t memory_bytes = 0;          // that it takes where it is loaded; 0: not known
  std::string adapter = {};           // not empty: one of alias_of's, listed as a model; not on the wire
  bool operator==(const ModelInfo&) const = default;
};

struct Load {
  uint32_t running = 0;
  uint32_t waiting = 0;
  uint32_t max_running = 0;  // 0: not limited or not known
  bool operator==(const Load&) const = default;
};

struct Snapshot {
  std::vector<ModelInfo> models;  // sorted by id
  Load load;
  bool ready = false;  // can answer a request now
  std::vector<std::string> not_ready_reasons;
  std::string name;    // of the process; empty: not known. Travels in Hello
  bool quiet = false;  // nothing was heard of it for a while: it may be dead; not on the wire
  bool operator==(const Snapshot&) const = default;

  const ModelInfo* Find(const std::string& id) const;
};

class InferenceService {
 public:
  virtual ~InferenceService() = default;

  // Never blocks, never null; errors come as the stream's end. Thread-safe.
  virtual EventStream Infer(Request request, Context context) = 0;

  // What is known now; never blocks on the network. Thread-safe.
  virtual Snapshot Describe() const = 0;

  // What came into and left the prefix caches behind it after `cursor` (at first 0), which moves on; hints
  // for routing. Thread-safe.
  virtual PrefixChanges PrefixesSince(uint64_t& cursor) const {
    (void)cursor;
    return {};
  }
};

// A stream that ends at once.
EventStream EndedStream(Status end);

}  // namespace cyllm
