#include "worker/engine_check/held.h"

#include <malloc.h>

#include <chrono>
#include <filesystem>
#include <iterator>
#include <thread>

namespace cyllm::engine_check {

namespace {

size_t Entries(const char* folder) {
  std::error_code ec;
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder, ec), {}));
}

}  // namespace

Held HeldNow() { return {Entries("/proc/self/task"), Entries("/proc/self/fd"), mallinfo2().uordblks}; }

Held HeldAfter(const Held& before) {
  Held now = HeldNow();
  for (int i = 0; i < 100 && now.threads > before.threads; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    now = HeldNow();
  }
  return now;
}

void TellGrowth(const Held& before, const Held& after, size_t slack, const Report& wrong) {
  const auto grown = [&](const char* what, size_t from, size_t to, size_t by) {
    if (to > from + by) wrong("leaks " + std::to_string(to - from) + what);
  };
  grown(" threads", before.threads, after.threads, 0);
  grown(" open files", before.files, after.files, 0);
  grown(" bytes", before.bytes, after.bytes, slack);
}

}  // namespace cyllm::engine_check
