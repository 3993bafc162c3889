#include "inference/service.h"

#include <algorithm>

namespace cyllm {
namespace {

class Ended final : public EventSource {
 public:
  explicit Ended(Status end) : end_(std::move(end)) {}
  Task<NextResult> Next(TimePoint) override {
    NextResult result;
    result.end = end_;
    co_return result;
  }
  void Wake() override {}

 private:
  Status end_;
};

}  // namespace

const ModelInfo* Snapshot::Find(const std::string& id) const {
  const auto it = std::find_if(models.begin(), models.end(), [&](const ModelInfo& m) { return m.id == id; });
  return it == models.end() ? nullptr : &*it;
}

EventStream EndedStream(Status end) { return std::make_unique<Ended>(std::move(end)); }

}  // namespace cyllm
