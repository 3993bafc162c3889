// Whose turn it is: a step is computed with one adapter, or none.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "llama_cpp/request.h"

namespace cyllm::llama {

// In turns, ascending, round and round. A turn lasts for a step at least, and so long that all who want one
// have had theirs within `cycle`, as far as steps let it: changing costs about as much as a short step. Who
// is alone goes on; who comes then has the next step.
class AdapterTurns {
 public:
  explicit AdapterTurns(std::chrono::duration<double> cycle) : cycle_(cycle) {}

  // `wanted`, ascending, in the order in which they should have the next step: all of them, for the first may
  // turn out to have nothing to compute.
  std::vector<uint32_t> Order(std::vector<uint32_t> wanted, TimePoint now) const;

  // It has the step. Whether that is another one than before.
  bool Took(uint32_t adapter, TimePoint now);

 private:
  const std::chrono::duration<double> cycle_;
  uint32_t current_ = 0;
  std::optional<TimePoint> since_;
};

}  // namespace cyllm::llama
