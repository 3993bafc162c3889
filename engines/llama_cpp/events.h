// The events of one step, with all that they point to.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "llama_cpp/output.h"
#include "sdk/engine.hpp"

namespace cyllm::llama {

// Not thread-safe. Pointers in events() hold until Clear.
class Events {
 public:
  cyllm_event& Add(uint64_t id, uint32_t type, uint32_t choice = 0);
  // TEXT, REASONING or TOOL_CALL; `call_id` counts where a call opens.
  void Piece(uint64_t id, uint32_t choice, Delta delta, std::string call_id);
  void End(uint64_t id, const cyllm_error* error);  // null: OK; copied
  cyllm_str Keep(std::string text);
  const std::vector<float>& Keep(std::vector<float> values);

  const std::vector<cyllm_event>& list() const { return list_; }
  void Clear();

 private:
  std::vector<cyllm_event> list_;
  std::deque<Delta> deltas_;
  std::deque<std::vector<cyllm_logprob>> logprobs_;
  std::deque<std::string> texts_;
  std::deque<std::vector<float>> values_;
  std::deque<cyllm_error> errors_;
};

}  // namespace cyllm::llama
