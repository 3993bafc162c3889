#include "llama_cpp/cores.h"

namespace cyllm::llama {

void Cores::Expect(Lane lane, bool soon) {
  std::lock_guard lock(mutex_);
  expected_[lane] = soon;
}

// Of an odd number prefill gets more: it knows to use them.
uint32_t Cores::Part(Lane lane) const {
  if (threads_ < 2 || !expected_[1 - lane]) return threads_;
  return lane == kDecode ? threads_ / 2 : threads_ - threads_ / 2;
}

uint32_t Cores::Enter(Lane lane) {
  std::unique_lock lock(mutex_);
  expected_[lane] = true;
  const uint64_t turn = next_++;
  changed_.wait(lock, [&] { return now_ == turn && used_ + Part(lane) <= threads_; });
  ++now_;
  const uint32_t part = Part(lane);
  used_ += part;
  changed_.notify_all();
  return part;
}

void Cores::Leave(uint32_t threads) {
  {
    std::lock_guard lock(mutex_);
    used_ -= threads;
  }
  changed_.notify_all();
}

void Cores::lock() {
  std::unique_lock lock(mutex_);
  const uint64_t turn = next_++;
  changed_.wait(lock, [&] { return now_ == turn && used_ == 0; });
  ++now_;
  used_ = threads_;
}

}  // namespace cyllm::llama
