// The seam between producers on foreign threads (engine threads, gRPC's) and the coroutine that pulls: a
// queue whose reading end is an EventStream. The reader's pulls are reported back as credit.
#pragma once

#include <functional>
#include <memory>

#include "inference/service.h"

namespace cyllm {

// How the reading end talks back. Called without locks held, on the reader's home (OnTaken, OnDropped).
class PipeListener {
 public:
  virtual ~PipeListener() = default;
  // The reader took `deltas` deltas out: that many more may be produced.
  virtual void OnTaken(uint32_t deltas) = 0;
  // The reader dropped the stream before its end. At most once, and the last call.
  virtual void OnDropped() = 0;
};

// Writing end; shared by the producers, all calls thread-safe and non-blocking.
class EventPipe {
 public:
  // `listener` may be null; it is kept alive by the reading end until that is destroyed.
  static std::pair<std::shared_ptr<EventPipe>, EventStream> Make(Executor home,
                                                                 std::shared_ptr<PipeListener> listener);
  ~EventPipe();

  void Push(Batch events);
  void Push(Event event);
  // Nothing can be pushed after it; the first call wins. Events pushed before are still handed out.
  void End(Status status);
  bool dropped() const;  // nobody reads any more

 private:
  struct State;
  explicit EventPipe(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
  friend class PipeStream;
};

}  // namespace cyllm
