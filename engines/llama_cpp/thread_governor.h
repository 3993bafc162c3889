// How many compute threads the next step gets.
#pragma once

#include <chrono>
#include <cstdint>

namespace cyllm::llama {

// ggml's threads meet at a barrier hundreds of times in a step, spinning. When another thread of the machine
// takes the core of one, all others wait for it: two threads beside one busy thread are several times slower
// than one thread alone. So: as soon as the threads get less CPU time than they would use, there are fewer of
// them, and from time to time all are tried again. Pure; not thread-safe.
class ThreadGovernor {
 public:
  using Seconds = std::chrono::duration<double>;

  explicit ThreadGovernor(uint32_t threads) : all_(threads), now_(threads) {}

  uint32_t threads() const { return now_; }

  // A step ran with threads(): how long it took, and the CPU time of the process meanwhile.
  void Report(Seconds wall, Seconds cpu);

 private:
  void Reduce(double missing);

  const uint32_t all_;
  uint32_t now_;
  Seconds wall_{0}, cpu_{0};  // since the last decision
  Seconds reduced_{0};        // time left with fewer threads
  Seconds penalty_{kFirst};   // the next such time
  Seconds good_{0};           // without trouble

  static constexpr Seconds kWindow{0.05}, kFirst{0.3}, kLongest{8}, kForget{2};
  static constexpr double kTolerated = 0.35;  // cores
};

}  // namespace cyllm::llama
