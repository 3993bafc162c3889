// A thread for what recurses deeply.
#pragma once

#include <pthread.h>

#include <functional>

namespace cyllm::llama {

// Reserved for its stack; only what is used of it takes memory.
constexpr size_t kLargeStack = 512u << 20;

// Runs `f`, which throws nothing, on a stack of kLargeStack. Where so much cannot be reserved: on an ordinary
// one if `or_less`, else not at all.
class LargeThread {
 public:
  LargeThread(std::function<void()> f, bool or_less);  // throws std::system_error if `or_less` fails too
  ~LargeThread() { Join(); }
  LargeThread(const LargeThread&) = delete;
  LargeThread& operator=(const LargeThread&) = delete;

  bool runs() const { return runs_; }  // until Join
  void Join();

 private:
  const std::function<void()> f_;
  pthread_t thread_{};
  bool runs_ = false;
};

}  // namespace cyllm::llama
