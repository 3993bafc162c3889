#include "gateway/merge.h"

namespace cyllm {

namespace {

class Merged final : public EventSource {
 public:
  Merged(std::vector<EventStream> streams, uint32_t n) : streams_(std::move(streams)), n_(n) {}

  Task<NextResult> Next(TimePoint wake_at) override {
    while (true) {
      NextResult next = co_await streams_[current_]->Next(wake_at);
      if (next.what == NextResult::What::kEnd && next.end.ok() && current_ + 1 < streams_.size()) {
        streams_[current_++].reset();
        continue;
      }
      if (next.what == NextResult::What::kEvents && !Renumber(next.events)) continue;
      co_return next;
    }
  }
  void Wake() override { streams_[current_]->Wake(); }

 private:
  // False when nothing is left.
  bool Renumber(Batch& events) {
    if (current_ == 0) return true;
    std::erase_if(events, [](const Event& e) { return std::holds_alternative<Accepted>(e); });
    const uint32_t offset = static_cast<uint32_t>(current_) * n_;
    const auto add = [offset](auto& e) {
      if constexpr (requires { e.choice; }) e.choice += offset;
    };
    for (Event& event : events) std::visit(add, event);
    return !events.empty();
  }

  std::vector<EventStream> streams_;
  const uint32_t n_;
  size_t current_ = 0;
};

}  // namespace

EventStream Merge(std::vector<EventStream> streams, uint32_t n) {
  if (streams.size() == 1) return std::move(streams.front());
  return std::make_unique<Merged>(std::move(streams), n);
}

}  // namespace cyllm
