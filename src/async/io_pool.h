// The I/O threads of a process: each runs one single-threaded io_context.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

#include "async/task.h"

namespace cyllm {

class IoPool {
 public:
  // Starts `threads` (>= 1) threads named `name`0, `name`1...
  explicit IoPool(size_t threads, const char* name = "io");
  ~IoPool();  // Stop()
  IoPool(const IoPool&) = delete;
  IoPool& operator=(const IoPool&) = delete;

  size_t size() const { return workers_.size(); }
  Executor At(size_t index) const;
  Executor Next();  // round robin; thread-safe

  // Stops the loops and joins. Pending handlers are destroyed, not run: first end what runs (Scope).
  // Idempotent; never from one of its own threads.
  void Stop();

  // Runs `task` on thread 0 and blocks until it is done; for main and tests, never on an I/O thread.
  void RunBlocking(Task<> task);

 private:
  struct Worker;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic<size_t> next_{0};
};

}  // namespace cyllm
