// One child process and all that it starts: a process group of its own, whose output comes to us and which
// does not outlive us.
//
// Orphan-proof twice: the kernel kills the child when the thread that started it ends (PR_SET_PDEATHSIG), and
// a shell that waits on a pipe from us kills the whole group when the pipe breaks, whatever killed us.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace cyllm {

struct ChildSpec {
  std::vector<std::string> command;        // a name is looked for in PATH
  std::map<std::string, std::string> env;  // besides ours
};

// Path of an executable by name or path; empty: there is none.
std::string FindExecutable(const std::string& name);

// Used from one thread, which lives as long as the child.
class Child {
 public:
  // NOT_FOUND: no such program; INTERNAL: the system refused.
  static Result<Child> Start(const ChildSpec& spec);
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  ~Child();  // KillGroup(), and waits for the child itself

  pid_t pid() const { return pid_; }
  int output() const { return output_; }  // stdout and stderr; non-blocking
  int exited() const { return pidfd_; }   // readable when the child has ended
  void Terminate();                       // SIGTERM to the child; what it started is its business
  void KillGroup();                       // SIGKILL to all of the group
  // After exited(): what became of it, for people: "exited with status 1", "was killed by signal 9".
  std::string Reap();

 private:
  Child() = default;
  pid_t pid_ = -1, guard_ = -1;
  int output_ = -1, pidfd_ = -1, guard_pipe_ = -1;
  bool reaped_ = false;
};

}  // namespace cyllm
