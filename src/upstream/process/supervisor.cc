#include "upstream/process/supervisor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "base/utf8.h"

namespace cyllm {

namespace {

constexpr size_t kTailLines = 40;
constexpr size_t kMaxLine = 2'000;
constexpr Millis kLook{100};

}  // namespace

Supervisor::Supervisor(SupervisorOptions options)
    : options_(std::move(options)),
      grace_(options_.stop_grace),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Supervisor::~Supervisor() {
  Stop();
  close(wake_);
}

void Supervisor::Start() {
  MutexLock lock(mutex_);
  if (thread_.joinable() || stopping_) return;
  state_ = ServerState::kStarting;
  thread_ = std::thread([this] { Run(); });
}

void Supervisor::Stop(std::optional<Millis> grace) {
  std::thread thread;
  {
    MutexLock lock(mutex_);
    if (!thread_.joinable()) return;
    stopping_ = true;
    grace_ = grace.value_or(options_.stop_grace);
    thread.swap(thread_);
  }
  const uint64_t one = 1;
  (void)!write(wake_, &one, sizeof one);
  thread.join();
  uint64_t ignored;
  (void)!read(wake_, &ignored, sizeof ignored);
  MutexLock lock(mutex_);
  stopping_ = false;
  state_ = ServerState::kStopped;
}

ServerState Supervisor::state() const {
  MutexLock lock(mutex_);
  return state_;
}

pid_t Supervisor::pid() const {
  MutexLock lock(mutex_);
  return pid_;
}

void Supervisor::SetState(ServerState state, pid_t pid) {
  MutexLock lock(mutex_);
  state_ = state;
  pid_ = pid;
}

void Supervisor::Run() {
  Millis pause = options_.backoff;
  while (true) {
    if (Live()) pause = options_.backoff;
    if (options_.on_end) options_.on_end();
    if (!Pause(pause)) return;
    pause = std::min(2 * pause, options_.max_backoff);
  }
}

bool Supervisor::Pause(Millis pause) {
  pollfd wake = {wake_, POLLIN, 0};
  return poll(&wake, 1, static_cast<int>(pause.count())) == 0;
}

bool Supervisor::Wanted() const {
  MutexLock lock(mutex_);
  return !stopping_;
}

bool Supervisor::Live() {
  tail_.clear();
  line_.clear();
  if (options_.may_start && !options_.may_start([this] { return Wanted(); })) {
    if (Wanted()) SetState(ServerState::kFailed, -1);
    return false;
  }
  if (!options_.socket.empty()) unlink(options_.socket.c_str());
  Result<Child> child = Child::Start(options_.child);
  if (!child) {
    Log()->error("{}: cannot be started: {}", options_.name, child.error().message);
    SetState(ServerState::kFailed, -1);
    return false;
  }
  Log()->info("{}: started as process {}", options_.name, child->pid());
  SetState(ServerState::kStarting, child->pid());
  const TimePoint begun = Clock::now();
  TimePoint kill_at = After(begun, options_.start_limit);
  bool ready = false, stopping = false, killed = false;
  std::string why;
  pollfd fds[] = {{child->exited(), POLLIN, 0}, {child->output(), POLLIN, 0}, {wake_, POLLIN, 0}};
  while (true) {
    poll(fds, 3, static_cast<int>(kLook.count()));
    if (fds[1].revents) {
      ReadOutput(child->output());
      if (!(fds[1].revents & POLLIN)) fds[1].fd = -1;  // nobody writes any more
    }
    if (fds[0].revents) break;
    if (fds[2].revents && !stopping) {
      stopping = true;
      fds[2].fd = -1;
      child->Terminate();
      kill_at = After(Clock::now(), grace_.load());
    }
    if (!ready && !stopping && options_.ready()) {
      ready = true;
      kill_at = kNever;
      Log()->info("{}: ready after {} ms", options_.name,
                  std::chrono::duration_cast<Millis>(Clock::now() - begun).count());
      SetState(ServerState::kReady, child->pid());
    }
    if (std::string trouble;
        !stopping && !killed && options_.trouble && !(trouble = options_.trouble()).empty()) {
      killed = true;
      why = trouble + ", ";
      child->KillGroup();
    }
    if (Clock::now() >= kill_at) {
      why = stopping ? "did not end in time, " : "was not ready in time, ";
      kill_at = kNever;
      child->KillGroup();
    }
  }
  ReadOutput(child->output());
  why += child->Reap();
  if (stopping) {
    Log()->info("{}: stopped; it {}", options_.name, why);
  } else {
    std::string lines;
    for (const std::string& line : tail_) lines += "\n    " + line;
    Log()->error("{}: ended unasked: it {}. Its last words:{}", options_.name, why,
                 lines.empty() ? " none" : lines);
  }
  SetState(ready ? ServerState::kStarting : ServerState::kFailed, -1);
  child->KillGroup();  // what it left behind
  if (!options_.socket.empty()) unlink(options_.socket.c_str());
  return ready;
}

void Supervisor::ReadOutput(int fd) {
  char buffer[4096];
  ssize_t n;
  while ((n = read(fd, buffer, sizeof buffer)) > 0) {
    for (const char c : std::string_view(buffer, static_cast<size_t>(n))) {
      if (c != '\n' && line_.size() < kMaxLine) {
        line_ += c;
        continue;
      }
      line_ = RepairUtf8(line_);
      Log()->debug("{}| {}", options_.name, line_);
      tail_.push_back(std::exchange(line_, {}));
      if (tail_.size() > kTailLines) tail_.pop_front();
    }
  }
}

}  // namespace cyllm
