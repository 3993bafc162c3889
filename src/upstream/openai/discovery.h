// What a server tells of itself: its models, and how busy it is.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "upstream/openai/profile.h"

namespace cyllm::upstream {

struct ServedModel {
  std::string id;
  std::string owned_by;
  std::string parent;          // of an adapter: the model it belongs to
  uint32_t max_model_len = 0;  // 0: not told
  int64_t created = 0;         // unix seconds
  std::string identity;  // what the server tells of the weights: equal ones are of one model; empty: nothing
  bool operator==(const ServedModel&) const = default;
};

// Body of GET /v1/models. At most 10 000 are read.
Result<std::vector<ServedModel>> ReadModels(std::string_view body);

struct ImportedLoad {
  std::optional<double> running, waiting;  // requests
  std::optional<double> kv_usage;          // 0 to 1; of several engines the fullest
};

// Body of GET `profile.metrics`, Prometheus text format 0.0.4: gauges by the profile's names, summed over
// their labels.
ImportedLoad ReadLoad(const Profile& profile, std::string_view text);

}  // namespace cyllm::upstream
