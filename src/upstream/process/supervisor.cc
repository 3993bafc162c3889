#include "upstream/process/supervisor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/utf8.h"

namespace cyllm {

namespace {

constexpr size_t kTailLines = 40;
constexpr size_t kMaxLine = 2'000;
constexpr Millis kLook{100};

}  // namespace

Supervisor::Supervisor(SupervisorOptions options)
    : options_(std::move(options)), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Supervisor::~Supervisor() {
  Stop();
  close(wake_);
}

void Supervisor::Start() {
  MutexLock lock(mutex_);
  if (state_ != ServerState::kStopped) return;
  if (thread_.joinable()) thread_.join();
  state_ = ServerState::kStarting;
  thread_ = std::thread([this] { Run(); });
}

void Supervisor::BeginStop(std::optional<Millis> grace) {
  MutexLock lock(mutex_);
  if (state_ == ServerState::kStopped) return;
  const TimePoint by = After(Clock::now(), grace.value_or(options_.stop_grace));
  stop_by_ = std::min(by, stop_by_.load());
  if (std::exchange(stopping_, true)) return;
  const uint64_t one = 1;
  (void)!write(wake_, &one, sizeof one);
}

void Supervisor::Stop(std::optional<Millis> grace) {
  BeginStop(grace);
  MutexLock lock(mutex_);
  while (stopping_) stopped_.Wait(mutex_);
  if (state_ == ServerState::kStopped && thread_.joinable()) thread_.join();
}

ServerState Supervisor::state() const {
  MutexLock lock(mutex_);
  return stopping_ ? ServerState::kStopping : state_;
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
    if (!Pause(pause)) break;
    pause = std::min(2 * pause, options_.max_backoff);
  }
  MutexLock lock(mutex_);
  uint64_t ignored;
  (void)!read(wake_, &ignored, sizeof ignored);
  stopping_ = false;
  stop_by_ = kNever;
  state_ = ServerState::kStopped;
  stopped_.NotifyAll();
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
    }
    if (stopping && !killed) kill_at = stop_by_;
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
      killed = true;
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
