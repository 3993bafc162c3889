// Who computes when, and on how many of the compute threads.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace cyllm::llama {

// Threads that wait for one another at a barrier hundreds of times in a step must not outnumber the cores. So
// whoever computes asks here first: one who is alone gets all threads; while another lane has work too, each
// gets its part, and the two compute beside each other. Served in the order of asking. Thread-safe.
//
// Two lanes with one core each do more than two cores that take turns: nobody waits at barriers, and
// decoding, which waits for memory, and prefill, which does not, overlap (bench/engine/peer/lanes.cc).
class Cores {
 public:
  enum Lane : uint8_t { kDecode, kPrompts };

  explicit Cores(uint32_t threads) : threads_(threads) {}

  // Whether `lane` will ask again soon; until then the other one has all threads.
  void Expect(Lane lane, bool soon);

  // Waits for its turn. How many threads the lane may use until it calls Leave with the same number.
  uint32_t Enter(Lane lane);
  void Leave(uint32_t threads);

  // All threads, for somebody else; a BasicLockable of the standard.
  void lock();
  void unlock() { Leave(threads_); }

 private:
  uint32_t Part(Lane lane) const;

  const uint32_t threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<bool, 2> expected_{};
  uint32_t used_ = 0;
  uint64_t next_ = 0, now_ = 0;  // turns
};

}  // namespace cyllm::llama
