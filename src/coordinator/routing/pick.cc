#include "coordinator/routing/pick.h"

#include <vector>

namespace cyllm {

Decision PickRoundRobin(const RequestFacts& facts, std::span<const BackendView> views, uint64_t turn) {
  std::vector<int> suitable;
  for (const bool avoided : {false, true}) {
    for (size_t i = 0; i < views.size(); ++i) {
      if (Suits(facts, views[i]) && Avoided(facts, views[i]) == avoided)
        suitable.push_back(static_cast<int>(i));
    }
    if (!suitable.empty()) break;
  }
  if (suitable.empty()) return {-1, "nobody", Refusal(facts, views)};
  return {suitable[turn % suitable.size()], "round robin over " + std::to_string(suitable.size()), {}};
}

}  // namespace cyllm
