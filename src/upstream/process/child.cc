#include "upstream/process/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/close_range.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

extern char** environ;

namespace cyllm {

namespace {

// Strings as exec wants them.
class Pointers {
 public:
  explicit Pointers(std::vector<std::string> texts) : texts_(std::move(texts)) {
    for (std::string& text : texts_) pointers_.push_back(text.data());
    pointers_.push_back(nullptr);
  }
  char** get() { return pointers_.data(); }

 private:
  std::vector<std::string> texts_;
  std::vector<char*> pointers_;
};

std::vector<std::string> Environment(const std::map<std::string, std::string>& ours) {
  std::vector<std::string> out;
  for (char** entry = environ; *entry; ++entry) {
    const std::string_view text(*entry);
    if (!ours.contains(std::string(text.substr(0, text.find('='))))) out.emplace_back(text);
  }
  for (const auto& [name, value] : ours) out.push_back(name + "=" + value);
  return out;
}

bool ReadByte(int fd) {
  char byte;
  ssize_t n;
  do n = read(fd, &byte, 1);
  while (n < 0 && errno == EINTR);
  return n == 1;
}

// In the child, between fork and exec: only what is safe there. Waits for a byte from `go`, whose end means
// that there is nobody to run for. Tells errno through `failed`.
[[noreturn]] void Become(const char* path, char** argv, char** env, int output, int go, int failed,
                         pid_t parent) {
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() == parent) {
    for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    const int null = open("/dev/null", O_RDONLY);
    if (null >= 0) dup2(null, 0);
    dup2(output, 1);
    dup2(output, 2);
    if (!ReadByte(go)) _exit(127);
    syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
    execve(path, argv, env);
  }
  const int error = errno;
  (void)!write(failed, &error, sizeof error);
  _exit(127);
}

// Kills group `pid` when `pipe` breaks without a word. -1: there is no shell here.
pid_t StartGuard(pid_t group, int pipe) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, pipe, 0);
  // Whoever reads our output waits for its end, which must not be the guard's.
  for (const int output : {1, 2}) posix_spawn_file_actions_addopen(&files, output, "/dev/null", O_WRONLY, 0);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  Pointers argv({"sh", "-c", "read -r word || kill -9 \"-$1\"", "sh", std::to_string(group)});
  Pointers env({});
  pid_t pid = -1;
  if (posix_spawn(&pid, "/bin/sh", &files, &attributes, argv.get(), env.get()) != 0) pid = -1;
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return pid;
}

void CloseOnce(int& fd) {
  if (fd >= 0) close(fd);
  fd = -1;
}

}  // namespace

std::string FindExecutable(const std::string& name) {
  if (name.empty()) return {};
  if (name.find('/') != std::string::npos) return access(name.c_str(), X_OK) == 0 ? name : std::string();
  const char* path = getenv("PATH");
  std::string_view rest = path ? path : "/usr/local/bin:/usr/bin:/bin";
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(':'), rest.size());
    const std::string candidate = std::string(rest.substr(0, end)) + "/" + name;
    if (candidate.front() == '/' && access(candidate.c_str(), X_OK) == 0) return candidate;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return {};
}

Result<Child> Child::Start(const ChildSpec& spec) {
  const std::string path = spec.command.empty() ? "" : FindExecutable(spec.command.front());
  if (path.empty())
    return Err(MakeStatus(Code::kNotFound, fmt::format("there is no program '{}' here",
                                                       spec.command.empty() ? "" : spec.command.front())));
  Child child;
  int output[2], failed[2], go[2], guard[2];
  const auto refused = [](const char* what) {
    return Err(MakeStatus(Code::kInternal, fmt::format("{}: {}", what, strerror(errno))));
  };
  if (pipe2(output, O_CLOEXEC) != 0) return refused("pipe");
  child.output_ = output[0];
  fcntl(output[0], F_SETFL, O_NONBLOCK);
  if (pipe2(failed, O_CLOEXEC) != 0) {
    close(output[1]);
    return refused("pipe");
  }
  if (pipe2(go, O_CLOEXEC) != 0) {
    for (const int fd : {output[1], failed[0], failed[1]}) close(fd);
    return refused("pipe");
  }
  Pointers argv(spec.command), env(Environment(spec.env));
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    close(go[1]);
    Become(path.c_str(), argv.get(), env.get(), output[1], go[0], failed[1], parent);
  }
  close(output[1]);
  close(failed[1]);
  if (pid < 0) {
    for (const int fd : {failed[0], go[0], go[1]}) close(fd);
    return refused("fork");
  }
  child.pid_ = pid;
  // Before it runs: we may be killed as soon as it has started something.
  if (pipe2(guard, O_CLOEXEC) == 0) {
    child.guard_pipe_ = guard[1];
    child.guard_ = StartGuard(pid, guard[0]);
    close(guard[0]);
  }
  (void)!write(go[1], "\n", 1);
  close(go[0]);  // not before: nobody would read it if the child has been killed
  close(go[1]);
  int error = 0;
  const ssize_t n = read(failed[0], &error, sizeof error);  // the end of the pipe: it runs
  close(failed[0]);
  if (n > 0) {
    errno = error;
    return refused(path.c_str());
  }
  child.pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (child.pidfd_ < 0) return refused("pidfd_open");
  return child;
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      guard_(std::exchange(other.guard_, -1)),
      output_(std::exchange(other.output_, -1)),
      pidfd_(std::exchange(other.pidfd_, -1)),
      guard_pipe_(std::exchange(other.guard_pipe_, -1)),
      reaped_(other.reaped_) {}

Child::~Child() {
  if (pid_ > 0) {
    KillGroup();
    if (!reaped_) waitpid(pid_, nullptr, 0);
  }
  if (guard_ > 0) {
    (void)!write(guard_pipe_, "\n", 1);
    waitpid(guard_, nullptr, 0);
  }
  CloseOnce(guard_pipe_);
  CloseOnce(output_);
  CloseOnce(pidfd_);
}

void Child::Terminate() {
  if (!reaped_) kill(pid_, SIGTERM);
}

void Child::KillGroup() { kill(-pid_, SIGKILL); }

std::string Child::Reap() {
  int status = 0;
  if (waitpid(pid_, &status, 0) == pid_) reaped_ = true;
  if (WIFSIGNALED(status)) return fmt::format("was killed by signal {}", WTERMSIG(status));
  return fmt::format("exited with status {}", WEXITSTATUS(status));
}

}  // namespace cyllm
