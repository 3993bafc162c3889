#include "worker/socket_path.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>

namespace cyllm {

namespace {

std::string Variable(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value ? value : otherwise;
}

}  // namespace

std::string SocketPath() {
  static std::atomic<int> number{0};
  std::string folder = Variable("XDG_RUNTIME_DIR", "");
  if (folder.empty() || access(folder.c_str(), W_OK) != 0) folder = Variable("TMPDIR", "/tmp");
  return fmt::format("{}/cy-llm-{}-{}.sock", folder, getpid(), number++);
}

}  // namespace cyllm
