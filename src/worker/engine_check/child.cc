#include "worker/engine_check/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sstream>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/lsan_interface.h>
#define CY_LEAKS() (__lsan_do_recoverable_leak_check() != 0)
#define CY_SANITIZED true
#elif __has_feature(thread_sanitizer)
#define CY_LEAKS() false
#define CY_SANITIZED true
#endif
#endif
#ifndef CY_SANITIZED
#define CY_LEAKS() false
#define CY_SANITIZED false
#endif

namespace cyllm::engine_check {

const bool kSanitized = CY_SANITIZED;

namespace {

using std::chrono::steady_clock;

// Lines on the pipe: a letter and a text.
constexpr char kWrong = 'W', kSkipped = 'S', kDone = 'D';

void Say(int fd, char kind, std::string text) {
  std::ranges::replace(text, '\n', ' ');
  const std::string line = kind + text.substr(0, 500) + '\n';  // small enough to be written whole
  if (write(fd, line.data(), line.size()) < 0) _exit(1);
}

[[noreturn]] void Child(int fd, const std::function<void(const Report&)>& f) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  const Report report{[fd](const std::string& what) { Say(fd, kWrong, what); },
                      [fd](const std::string& what) { Say(fd, kSkipped, what); }};
  try {
    f(report);
  } catch (const std::exception& e) {
    report(std::string("an exception came out of the engine: ") + e.what());
  }
  if (CY_LEAKS()) report("leaks memory, as told above");
  Say(fd, kDone, "");
  _exit(0);
}

// Everything until all writers are gone; false when `until` came first.
bool ReadAll(int fd, steady_clock::time_point until, std::string& out) {
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - steady_clock::now()).count();
    pollfd p{fd, POLLIN, 0};
    const int ready = left > 0 ? poll(&p, 1, static_cast<int>(std::min<int64_t>(left, 1 << 30))) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    char part[4096];
    const ssize_t n = read(fd, part, sizeof part);
    if (n == 0) return true;
    if (n > 0) out.append(part, static_cast<size_t>(n));
  }
}

}  // namespace

Outcome InChild(const std::string& name, std::chrono::milliseconds limit,
                const std::function<void(const Report&)>& f) {
  Outcome outcome{name, Verdict::kPass, {}, {}};
  const auto begin = steady_clock::now();
  const auto wrong = [&](const std::string& what) {
    outcome.verdict = Verdict::kFail;
    if (std::ranges::find(outcome.reasons, what) == outcome.reasons.end()) outcome.reasons.push_back(what);
  };
  int pipe[2];
  const bool piped = pipe2(pipe, O_CLOEXEC) == 0;
  const pid_t child = piped ? fork() : -1;
  if (child == 0) {
    close(pipe[0]);
    Child(pipe[1], f);
  }
  if (piped) close(pipe[1]);
  if (child < 0) {
    if (piped) close(pipe[0]);
    wrong(std::string("no process for it: ") + std::strerror(errno));
    return outcome;
  }
  setpgid(child, child);
  std::string said;
  const bool ended = ReadAll(pipe[0], begin + limit, said);
  close(pipe[0]);
  if (!ended) kill(-child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  kill(-child, SIGKILL);  // what the engine started
  outcome.took = std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now() - begin);

  bool done = false;
  std::istringstream lines(said);
  for (std::string line; std::getline(lines, line);) {
    const std::string text = line.empty() ? "" : line.substr(1);
    if (line.starts_with(kDone)) done = true;
    if (line.starts_with(kWrong)) wrong(text);
    if (line.starts_with(kSkipped) && outcome.verdict == Verdict::kPass) {
      outcome.verdict = Verdict::kSkip;
      outcome.reasons.push_back(text);
    }
  }
  if (done && ended) return outcome;
  if (!ended) {
    wrong("hangs: not done after " + std::to_string(limit.count()) + " ms");
  } else if (WIFSIGNALED(status)) {
    wrong(std::string("crashes: ") + strsignal(WTERMSIG(status)));
  } else {
    wrong("ends the process with status " + std::to_string(WEXITSTATUS(status)));
  }
  return outcome;
}

}  // namespace cyllm::engine_check
