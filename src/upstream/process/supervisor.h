// Keeps a server process alive: starts it, waits until it is ready, restarts it with back-off when it ends
// (with whatever exit status), stops it with grace and then by force.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <optional>
#include <thread>

#include "base/mutex.h"
#include "upstream/process/child.h"

namespace cyllm {

struct SupervisorOptions {
  std::string name;  // in the log
  ChildSpec child;
  std::string socket;           // its Unix socket, removed before each start and after each end; empty: none
  Millis start_limit{600'000};  // not ready by then: killed, started again
  Millis stop_grace{10'000};    // from SIGTERM to SIGKILL
  Millis backoff{1'000}, max_backoff{60'000};  // doubled each time it ends before it was ready
  // Asked before each start, on the supervisor's thread; may block for as long as `wanted` says true. False:
  // it may not be started, which counts as a start that failed.
  std::function<bool(const std::function<bool()>& wanted)> may_start = {};
  std::function<bool()> ready;  // asked several times a second; on the supervisor's thread
  // Asked as often; not empty: it is of no use any more (it hangs, say), is killed and started again.
  std::function<std::string()> trouble = {};
  std::function<void()> on_end;  // the process has ended, wanted or not; on that thread
};

enum class ServerState : uint8_t {
  kStopped,
  kStarting,
  kReady,
  kFailed,    // ended, will be restarted
  kStopping,  // told to stop
};

class Supervisor {
 public:
  explicit Supervisor(SupervisorOptions options);
  ~Supervisor();  // Stop()
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Thread-safe. Does nothing unless it is kStopped.
  void Start();
  // Thread-safe, does not block. `grace` in place of the option's; of several the one that ends first counts.
  void BeginStop(std::optional<Millis> grace = std::nullopt);
  // The same, and blocks until the whole process group is gone.
  void Stop(std::optional<Millis> grace = std::nullopt);

  Millis stop_grace() const { return options_.stop_grace; }
  ServerState state() const;
  pid_t pid() const;  // -1: none now

 private:
  void Run();
  // One life of the process; true when it was ready once.
  bool Live();
  bool Pause(Millis pause);  // false: told to stop
  bool Wanted() const;       // not told to stop
  void ReadOutput(int fd);
  void SetState(ServerState state, pid_t pid);

  const SupervisorOptions options_;
  std::atomic<TimePoint> stop_by_ = kNever;
  int wake_ = -1;  // eventfd: told to stop
  mutable Mutex mutex_;
  CondVar stopped_;
  ServerState state_ CY_GUARDED_BY(mutex_) = ServerState::kStopped;
  pid_t pid_ CY_GUARDED_BY(mutex_) = -1;
  std::thread thread_ CY_GUARDED_BY(mutex_);  // at its end while kStopped
  bool stopping_ CY_GUARDED_BY(mutex_) = false;
  // On the supervisor's thread only.
  std::string line_;
  std::deque<std::string> tail_;
};

}  // namespace cyllm
