// A scripted InferenceService for tests: what it is asked is recorded, what it answers is written down
// before.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "async/io_pool.h"
#include "base/mutex.h"
#include "inference/event_pipe.h"
#include "inference/service.h"

namespace cyllm {

// One answer: the events, then the end. `hold` leaves the stream open after the events (until
// FakeService::Finish or the reader drops it).
struct Script {
  Batch events;
  Status end;
  bool hold = false;
};

class FakeService : public InferenceService {
 public:
  struct Seen {
    Request request;
    Context context;
    std::shared_ptr<EventPipe> pipe;  // of a held stream: push more, or end it
    std::shared_ptr<std::atomic<uint32_t>> taken =
        std::make_shared<std::atomic<uint32_t>>(0);  // deltas pulled
    std::shared_ptr<std::atomic<bool>> dropped = std::make_shared<std::atomic<bool>>(false);
  };

  // The n-th request gets the n-th script; the last one repeats. Without scripts: ends UNIMPLEMENTED.
  explicit FakeService(std::vector<Script> scripts = {}) : scripts_(std::move(scripts)) {}

  EventStream Infer(Request request, Context context) override;
  Snapshot Describe() const override;
  PrefixChanges PrefixesSince(uint64_t& cursor) const override { return prefixes.Since(cursor, 1'000); }

  PrefixLog prefixes;
  void SetSnapshot(Snapshot snapshot);
  // Blocks until `count` requests have come; false after 10 s.
  bool WaitForRequests(size_t count);
  std::vector<Seen> seen() const;
  // Blocks until request `index` was dropped by its reader; false after 10 s.
  bool WaitForDrop(size_t index);

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  const std::vector<Script> scripts_;
  std::vector<Seen> seen_ CY_GUARDED_BY(mutex_);
  Snapshot snapshot_ CY_GUARDED_BY(mutex_);
};

// Accepted, one TextDelta per word (token ids 1, 2...; offsets right), Finished(stop). For scripts.
Batch TextAnswer(const std::vector<std::string>& tokens, uint32_t prompt_tokens = 3);

// Pulls a stream to its end on the calling coroutine; the events and how it ended.
struct Collected {
  Batch events;
  Status end;
  std::string Text(uint32_t choice = 0) const;
};
Task<> Collect(EventSource& stream, Collected& out);

}  // namespace cyllm
