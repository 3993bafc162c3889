// A scope owns the tasks spawned into it: after Close() nothing new starts, and Join() returns when all are
// done.
#pragma once

#include <functional>
#include <memory>

#include "async/task.h"
#include "base/clock.h"

namespace cyllm {

class Scope {
 public:
  Scope();
  ~Scope();  // closes; must be empty (checked in debug builds): Join first
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  // Starts `task` on `executor`. Returns false, dropping the task, when the scope is closed. Thread-safe. An
  // exception that leaves a task is logged and swallowed: tasks handle their own errors.
  bool Spawn(const Executor& executor, Task<> task);

  void Close();         // thread-safe
  size_t size() const;  // tasks not yet done; thread-safe

  // Blocks until empty, or until `until`; true when empty. Not on an I/O thread.
  bool Join(TimePoint until = kNever);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace cyllm
