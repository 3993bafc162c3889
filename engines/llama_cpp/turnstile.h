// Who computes next: the cores are for one at a time, in the order of asking.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace cyllm::llama {

// A lock that is handed on first come, first served. Meets the standard's BasicLockable.
class Turnstile {
 public:
  void lock() {
    std::unique_lock lock(mutex_);
    const uint64_t turn = next_++;
    changed_.wait(lock, [&] { return now_ == turn; });
  }
  void unlock() {
    {
      std::lock_guard lock(mutex_);
      ++now_;
    }
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t next_ = 0, now_ = 0;
};

}  // namespace cyllm::llama
