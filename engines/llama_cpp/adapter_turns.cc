#include "llama_cpp/adapter_turns.h"

#include <algorithm>

namespace cyllm::llama {

std::vector<uint32_t> AdapterTurns::Order(std::vector<uint32_t> wanted, TimePoint now) const {
  if (wanted.empty()) return wanted;
  const bool over = !since_ || now - *since_ >= cycle_ / static_cast<double>(wanted.size());
  const auto first = over ? std::upper_bound(wanted.begin(), wanted.end(), current_)
                          : std::lower_bound(wanted.begin(), wanted.end(), current_);
  std::rotate(wanted.begin(), first, wanted.end());
  return wanted;
}

bool AdapterTurns::Took(uint32_t adapter, TimePoint now) {
  const bool changed = adapter != current_;
  if (changed || !since_) since_ = now;
  current_ = adapter;
  return changed;
}

}  // namespace cyllm::llama
