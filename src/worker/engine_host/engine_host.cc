#include "worker/engine_host/engine_host.h"

#include <algorithm>

#include "async/signal.h"
#include "base/log.h"
#include "sdk/engine.hpp"
#include "worker/engine_host/convert.h"

namespace cyllm {

namespace {

// Deltas that the engine may be ahead of the reader.
constexpr uint32_t kCredit = 128;
constexpr Millis kStalled{60'000};

struct LoadProgress {
  const EngineHost::Progress& progress;
};

int OnProgress(void* ctx, double fraction, cyllm_str detail) {
  const auto& progress = static_cast<LoadProgress*>(ctx)->progress;
  return progress && !progress(fraction, sdk::View(detail)) ? 1 : 0;
}

}  // namespace

class EngineHost::Listener final : public PipeListener {
 public:
  Listener(std::weak_ptr<EngineHost> host, uint64_t id) : host_(std::move(host)), id_(id) {}

  void OnTaken(uint32_t deltas) override {
    taken_ += deltas;
    if (taken_ < kCredit / 2) return;
    if (auto host = host_.lock()) host->Credit(id_, taken_);
    taken_ = 0;
  }
  void OnDropped() override {
    auto host = host_.lock();
    if (!host) return;
    host->Forget(id_);
    host->api_->cancel(host->engine_, id_);
  }

 private:
  const std::weak_ptr<EngineHost> host_;
  const uint64_t id_;
  uint32_t taken_ = 0;
};

EngineHost::EngineHost(const cyllm_engine_api* api, std::string worker, StallLimits stall)
    : api_(api), worker_(std::move(worker)), watch_(stall) {}

Result<std::shared_ptr<EngineHost>> EngineHost::Load(const Manifest& manifest, const std::string& config_json,
                                                     std::string worker, const Progress& progress,
                                                     std::shared_ptr<PrefixLog> prefixes,
                                                     const std::string& model, StallLimits stall) {
  Result<const cyllm_engine_api*> api = LoadPlugin(manifest);
  if (!api) return Err(api.error());
  std::shared_ptr<EngineHost> host(new EngineHost(*api, std::move(worker), stall));
  host->prefixes_ = std::move(prefixes);
  const cyllm_callbacks callbacks = {sizeof(cyllm_callbacks), host.get(), OnEvents, OnCache};
  LoadProgress forward{progress};
  cyllm_error error{};
  error.size = sizeof error;
  host->engine_ = (*api)->create(sdk::Str(config_json), &callbacks, OnProgress, &forward, &error);
  if (!host->engine_) {
    Status status = FromEngine(error);
    if (status.ok()) status = MakeStatus(Code::kInternal, "the engine failed to load and gave no reason");
    return Err(std::move(status));
  }
  host->description_.size = sizeof host->description_;
  (*api)->describe(host->engine_, &host->description_);
  host->description_.digest[sizeof host->description_.digest - 1] = 0;
  if (!model.empty()) host->metrics_.emplace(model, [h = host.get()] { return h->Stats(); });
  return host;
}

EngineHost::~EngineHost() {
  metrics_.reset();
  if (engine_) api_->destroy(engine_);
  gone_.set_value();
}

EventStream EngineHost::Infer(const Request& request, const Context& context) {
  const Result<const PayloadParts*> parts = request.payload->parts();
  if (!parts) return EndedStream(parts.error());
  if (const uint32_t missing = request.facts.needs & ~capabilities()) return EndedStream(CannotDo(missing));
  const ResumeState& resume = request.facts.resume;
  const bool other_model = !resume.digest.empty() && resume.digest != digest();
  if (other_model || (!resume.choices.empty() && !(capabilities() & kCapResume))) {
    Status status =
        MakeStatus(Code::kUnimplemented, "the model's engine cannot take the request over", "cannot_resume");
    status.retryable = true;  // another worker may
    return EndedStream(std::move(status));
  }
  if (!resume.choices.empty() && resume.choices.size() != request.facts.choices)
    return EndedStream(MakeStatus(Code::kInvalidArgument, "a state to resume from is needed of every choice",
                                  "cannot_resume"));
  const uint64_t id = next_id_++;
  auto [pipe, stream] = EventPipe::Make(context.home, std::make_shared<Listener>(weak_from_this(), id));
  {
    MutexLock lock(mutex_);
    if (draining_) return EndedStream(Unavailable("the model is being unloaded", "draining"));
    if (stalled_until_ != TimePoint::min())
      return EndedStream(Unavailable("the engine stands still", "engine_stalled"));
    running_.emplace(id, Running{pipe, request.facts.kind < Kind::kEmbed, false, kCredit});
  }
  const EngineRequest engine_request(id, kCredit, request.facts, **parts);
  cyllm_error error{};
  error.size = sizeof error;
  if (api_->submit(engine_, engine_request.get(), &error) != CYLLM_OK) {
    Forget(id);
    pipe->End(FromEngine(error));
  }
  return std::move(stream);
}

void EngineHost::Sign(Accepted& accepted) const {
  accepted.worker = worker_;
  accepted.digest = digest();
  accepted.resumable = (capabilities() & kCapResume) != 0;
}

void EngineHost::OnCache(void* self, const uint64_t* added, size_t n_added, const uint64_t* removed,
                         size_t n_removed) {
  const auto* host = static_cast<EngineHost*>(self);
  if (host->prefixes_) host->prefixes_->Add({added, n_added}, {removed, n_removed});
}

void EngineHost::OnEvents(void* self, const cyllm_event* events, size_t n) {
  auto* host = static_cast<EngineHost*>(self);
  host->delivered_ += n;
  Signal::Together([&] { host->Deliver(events, n); });
}

void EngineHost::Deliver(const cyllm_event* events, size_t n) {
  Batch batch;
  for (size_t i = 0; i < n; ++i) {
    const cyllm_event& in = sdk::At(events, i);
    const bool end = in.type == CYLLM_EVENT_END;
    Event event;
    if (!end && FromEngine(in, &event)) {
      if (auto* accepted = std::get_if<Accepted>(&event)) Sign(*accepted);
      batch.push_back(std::move(event));
    }
    if (end || i + 1 == n || sdk::At(events, i + 1).id != in.id)
      Deliver(in.id, std::exchange(batch, {}), end ? &in : nullptr);
  }
}

void EngineHost::Deliver(uint64_t id, Batch batch, const cyllm_event* end) {
  std::shared_ptr<EventPipe> pipe;
  {
    MutexLock lock(mutex_);
    const auto it = running_.find(id);
    if (it == running_.end()) return;  // dropped by its reader
    Running& running = it->second;
    pipe = running.pipe;
    const auto deltas = std::ranges::count_if(batch, IsDelta);
    running.credit -= deltas;
    running.begun |= deltas > 0;
    if (end) {
      running_.erase(it);
      if (running_.empty()) idle_.NotifyAll();
    }
  }
  pipe->Push(std::move(batch));
  if (end) pipe->End(end->error ? FromEngine(*end->error) : Status::Ok());
}

void EngineHost::Forget(uint64_t id) {
  MutexLock lock(mutex_);
  running_.erase(id);
  if (running_.empty()) idle_.NotifyAll();
}

cyllm_stats EngineHost::Stats() const {
  cyllm_stats stats{};
  stats.size = sizeof stats;
  api_->stats(engine_, &stats);
  return stats;
}

struct Load EngineHost::load() const {
  const cyllm_stats stats = Stats();
  return {stats.running, stats.waiting, description_.max_running};
}

void EngineHost::Credit(uint64_t id, uint32_t deltas) {
  {
    MutexLock lock(mutex_);
    if (const auto it = running_.find(id); it != running_.end()) it->second.credit += deltas;
  }
  api_->credit(engine_, id, deltas);
}

// What does not compute yet may be read (a long prompt) for as long as that takes. Who waits may wait for the
// place of one whose reader does not read.
StallWatch::Owes EngineHost::Owes(bool computes) const {
  auto owes = StallWatch::Owes::kNothing;
  bool paused = false, begun = false;
  for (const auto& [id, running] : running_) {
    if (running.credit <= 0) {
      paused = true;
      continue;
    }
    begun |= running.begun;
    const bool step = computes && running.generates && description_.max_step_tokens > 0;
    owes = std::max(owes, step ? StallWatch::Owes::kStep : StallWatch::Owes::kSomething);
  }
  return paused && !begun ? StallWatch::Owes::kNothing : owes;
}

void EngineHost::Watch(TimePoint now) {
  const cyllm_stats stats = Stats();
  const uint64_t moves = stats.steps + stats.tokens_generated + stats.prompt_tokens_processed + delivered_;
  std::unordered_map<uint64_t, Running> lost;
  {
    MutexLock lock(mutex_);
    if (stalled_until_ != TimePoint::min() && (moves != stalled_at_ || now >= stalled_until_))
      stalled_until_ = TimePoint::min();
    if (!watch_.Stalls(Owes(stats.running > 0), moves, now)) return;
    stalled_until_ = now + kStalled;
    stalled_at_ = moves;
    lost.swap(running_);
    idle_.NotifyAll();
  }
  Log()->error("the engine stands still: its {} requests move", lost.size());
  for (const auto& [id, running] : lost) {
    api_->cancel(engine_, id);
    running.pipe->End(Unavailable("the engine stands still", "engine_stalled"));
  }
}

size_t EngineHost::paused() const {
  MutexLock lock(mutex_);
  return static_cast<size_t>(
      std::ranges::count_if(running_, [](const auto& entry) { return entry.second.credit <= 0; }));
}

bool EngineHost::stalled() const {
  MutexLock lock(mutex_);
  return stalled_until_ != TimePoint::min();
}

bool EngineHost::idle() const {
  MutexLock lock(mutex_);
  return running_.empty();
}

void EngineHost::Drain(TimePoint until) {
  std::unordered_map<uint64_t, Running> left;
  {
    MutexLock lock(mutex_);
    draining_ = true;
    while (!running_.empty()) {
      if (!idle_.WaitUntil(mutex_, until)) break;
    }
    left.swap(running_);
    idle_.NotifyAll();
  }
  for (const auto& [id, running] : left) {
    api_->cancel(engine_, id);
    running.pipe->End(Unavailable("the server is shutting down", "draining"));
  }
}

}  // namespace cyllm
