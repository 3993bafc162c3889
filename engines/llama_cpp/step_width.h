// How many rows a step of decoding sequences is filled up to.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <utility>

namespace cyllm::llama {

// Matrices are multiplied in blocks of 4 rows or more, and what is left over row by row: 15 rows can take a
// sixth longer than 16 (bench/engine/README.md). By how much depends on the CPU and on how the weights are
// quantised, so it is tried: each number of rows a few times as it is and a few times filled up to a whole
// block, in turns; what took less is done for the next thousand steps, and tried again. Pure; not
// thread-safe.
class StepWidth {
 public:
  using Seconds = std::chrono::duration<double>;

  static constexpr uint32_t kBlock = 4;

  // The rows to compute for so many that are wanted: these, or more.
  uint32_t Choose(uint32_t rows, uint32_t threads);
  // How long a step took that had as many rows as Choose said last.
  void Report(uint32_t rows, uint32_t threads, Seconds took);

 private:
  struct Trial {
    uint32_t steps = 0;           // reported
    Seconds plain{0}, filled{0};  // the shortest
  };
  static constexpr uint32_t kTries = 3, kKeep = 1000;

  static bool Filled(const Trial& trial);

  std::map<std::pair<uint32_t, uint32_t>, Trial> trials_;  // by rows and threads
};

}  // namespace cyllm::llama
