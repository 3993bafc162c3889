#include "inference/fake_service.h"

namespace cyllm {
namespace {

struct FakeListener : PipeListener {
  std::shared_ptr<std::atomic<uint32_t>> taken;
  std::shared_ptr<std::atomic<bool>> dropped;
  std::function<void()> changed;
  void OnTaken(uint32_t deltas) override { *taken += deltas; }
  void OnDropped() override {
    *dropped = true;
    changed();
  }
};

}  // namespace

EventStream FakeService::Infer(Request request, Context context) {
  Seen seen{std::move(request), context, nullptr};
  auto listener = std::make_shared<FakeListener>();
  listener->taken = seen.taken;
  listener->dropped = seen.dropped;
  listener->changed = [this] {
    MutexLock lock(mutex_);
    changed_.NotifyAll();
  };
  auto [pipe, stream] = EventPipe::Make(context.home, std::move(listener));
  Script script{{}, MakeStatus(Code::kUnimplemented, "nothing scripted")};
  {
    MutexLock lock(mutex_);
    if (!scripts_.empty()) script = scripts_[std::min(seen_.size(), scripts_.size() - 1)];
    if (script.hold) seen.pipe = pipe;
    seen_.push_back(std::move(seen));
    changed_.NotifyAll();
  }
  pipe->Push(script.events);
  if (!script.hold) pipe->End(script.end);
  return std::move(stream);
}

Snapshot FakeService::Describe() const {
  MutexLock lock(mutex_);
  return snapshot_;
}

void FakeService::SetSnapshot(Snapshot snapshot) {
  MutexLock lock(mutex_);
  snapshot_ = std::move(snapshot);
}

bool FakeService::WaitForRequests(size_t count) {
  const TimePoint until = Clock::now() + std::chrono::seconds(10);
  MutexLock lock(mutex_);
  while (seen_.size() < count) {
    if (!changed_.WaitUntil(mutex_, until)) return seen_.size() >= count;
  }
  return true;
}

std::vector<FakeService::Seen> FakeService::seen() const {
  MutexLock lock(mutex_);
  return seen_;
}

bool FakeService::WaitForDrop(size_t index) {
  const TimePoint until = Clock::now() + std::chrono::seconds(10);
  MutexLock lock(mutex_);
  while (seen_.size() <= index || !*seen_[index].dropped) {
    if (!changed_.WaitUntil(mutex_, until)) return seen_.size() > index && *seen_[index].dropped;
  }
  return true;
}

Batch TextAnswer(const std::vector<std::string>& tokens, uint32_t prompt_tokens) {
  Batch events;
  events.push_back(Accepted{prompt_tokens, 0, "fake"});
  Offsets end;
  for (const std::string& token : tokens) {
    ++end.tokens;
    end.text_bytes += token.size();
    events.push_back(TextDelta{0, token, {static_cast<int32_t>(end.tokens)}, {}, end});
  }
  Finished finished;
  finished.usage = {prompt_tokens, 0, static_cast<uint32_t>(tokens.size()), 0};
  events.push_back(std::move(finished));
  return events;
}

std::string Collected::Text(uint32_t choice) const {
  std::string text;
  for (const Event& event : events) {
    const auto* delta = std::get_if<TextDelta>(&event);
    if (delta && delta->choice == choice) text += delta->text;
  }
  return text;
}

Task<> Collect(EventSource& stream, Collected& out) {
  while (true) {
    NextResult next = co_await stream.Next(kNever);
    if (next.what == NextResult::What::kEnd) {
      out.end = std::move(next.end);
      co_return;
    }
    for (Event& event : next.events) out.events.push_back(std::move(event));
  }
}

}  // namespace cyllm
