#include "worker/model_slot.h"

#include <boost/json.hpp>
#include <cmath>

#include "base/log.h"
#include "worker/models/resolver.h"

namespace cyllm {

// Waits for the load, then is the engine's stream.
class LoadingStream final : public EventSource {
 public:
  LoadingStream(std::shared_ptr<ModelSlot> slot, EventStream loading, Request request, Context context)
      : slot_(std::move(slot)),
        stream_(std::move(loading)),
        request_(std::move(request)),
        context_(std::move(context)) {}

  Task<NextResult> Next(TimePoint wake_at) override {
    while (true) {
      NextResult next = co_await stream_->Next(wake_at);
      if (running_ || next.what != NextResult::What::kEnd || !next.end.ok()) co_return next;
      ModelSlot::Lookup found = slot_->Find(context_.home);
      if (found.host) {
        running_ = true;
        stream_ = found.host->Infer(request_, context_);
      } else {  // unloaded again in between: once more
        stream_ = found.loading ? std::move(found.loading) : EndedStream(std::move(found.error));
      }
    }
  }
  void Wake() override { stream_->Wake(); }

 private:
  const std::shared_ptr<ModelSlot> slot_;
  EventStream stream_;
  const Request request_;
  const Context context_;
  bool running_ = false;
};

ModelSlot::ModelSlot(ModelEntry entry, Manifest manifest, ModelSlotOptions options)
    : entry_(std::move(entry)), manifest_(std::move(manifest)), options_(std::move(options)) {}

ModelSlot::~ModelSlot() { Close(Clock::now()); }

EventStream ModelSlot::Infer(Request request, Context context) {
  Lookup found = Find(context.home);
  if (found.host) return found.host->Infer(request, context);
  if (!found.loading) return EndedStream(std::move(found.error));
  return std::make_unique<LoadingStream>(shared_from_this(), std::move(found.loading), std::move(request),
                                         std::move(context));
}

ModelSlot::Lookup ModelSlot::Find(const Executor& home) {
  MutexLock lock(mutex_);
  if (closed_) return {nullptr, nullptr, Unavailable("the server is shutting down", "draining")};
  if (host_) return {host_, nullptr, {}};
  if (state_ == ModelState::kFailed && Clock::now() < failed_at_ + options_.retry_after_failure)
    return {nullptr, nullptr, failure_};
  std::erase_if(waiting_, [](const auto& pipe) { return pipe->dropped(); });
  if (waiting_.size() >= options_.max_waiting)
    return {nullptr, nullptr, Unavailable("too many requests wait for the model", "overloaded")};
  StartLoading();
  auto [pipe, stream] = EventPipe::Make(home, nullptr);
  pipe->Push(told_);
  waiting_.push_back(std::move(pipe));
  return {nullptr, std::move(stream), {}};
}

void ModelSlot::StartLoad() {
  MutexLock lock(mutex_);
  if (!host_ && !closed_) StartLoading();
}

void ModelSlot::StartLoading() {
  if (state_ == ModelState::kLoading) return;
  state_ = ModelState::kLoading;
  told_ = Progress{Progress::Phase::kLoading, 0, "loading " + entry_.id};
  RunInBackground([this] { RunLoad(); });
}

void ModelSlot::RunInBackground(std::function<void()> f) {
  std::erase_if(background_, [](Background& b) {
    if (!*b.done) return false;
    b.thread.join();
    return true;
  });
  auto done = std::make_shared<std::atomic<bool>>(false);
  background_.push_back({std::thread([f = std::move(f), done] {
                           f();
                           *done = true;
                         }),
                         done});
}

void ModelSlot::RunLoad() {
  const TimePoint start = Clock::now();
  Log()->info("model '{}': loading with engine {}", entry_.id, entry_.engine);
  Result<std::shared_ptr<EngineHost>> host = LoadEngine();
  std::vector<std::shared_ptr<EventPipe>> waiting;
  Status end;
  {
    MutexLock lock(mutex_);
    waiting.swap(waiting_);
    if (closed_) {
      end = Unavailable("the server is shutting down", "draining");
    } else if (host) {
      host_ = *host;
      state_ = ModelState::kReady;
      was_loaded_ = true;
    } else {
      // Why it failed is for the log: it may name paths and hosts.
      end = Unavailable("the model could not be loaded", "load_failed", options_.retry_after_failure);
      failure_ = end;
      failed_at_ = Clock::now();
      state_ = ModelState::kFailed;
    }
  }
  if (host) {
    Log()->info("model '{}': ready after {} ms", entry_.id,
                std::chrono::duration_cast<Millis>(Clock::now() - start).count());
  } else {
    Log()->error("model '{}': loading failed: {}", entry_.id, host.error().ToString());
  }
  for (const auto& pipe : waiting) pipe->End(end);
}

Result<std::shared_ptr<EngineHost>> ModelSlot::LoadEngine() {
  boost::json::object model = boost::json::parse(entry_.options_json).as_object();
  model["id"] = entry_.id;
  if (!entry_.source.empty()) {
    const auto progress = [this](const FetchProgress& p) {
      const double fraction = p.total > 0 ? static_cast<double>(p.done) / static_cast<double>(p.total) : -1;
      return OnProgress(fraction, "fetching " + entry_.id);
    };
    Result<std::string> path = ResolveModel(entry_.source, options_.model_cache, progress);
    if (!path) return Err(path.error());
    model["path"] = *path;
  }
  boost::json::object config;
  config["model"] = std::move(model);
  config["threads"] = options_.threads;
  return EngineHost::Load(
      manifest_, boost::json::serialize(config), options_.worker,
      [this](double fraction, std::string_view detail) { return OnProgress(fraction, std::string(detail)); },
      options_.prefixes);
}

bool ModelSlot::OnProgress(double fraction, std::string_view detail) {
  MutexLock lock(mutex_);
  if (closed_) return false;
  Progress now{Progress::Phase::kLoading, static_cast<float>(fraction), std::string(detail)};
  if (now.detail == told_.detail && std::abs(now.fraction - told_.fraction) < 0.05f) return true;
  told_ = std::move(now);
  for (const auto& pipe : waiting_) pipe->Push(told_);
  return true;
}

void ModelSlot::Unload() {
  MutexLock lock(mutex_);
  if (!host_) return;
  state_ = ModelState::kAvailable;
  std::erase_if(unloading_, [](const auto& host) { return host.expired(); });
  unloading_.push_back(host_);
  RunInBackground([host = std::exchange(host_, nullptr)]() mutable {
    host->Drain(kNever);
    host.reset();
  });
}

void ModelSlot::Close(TimePoint until) {
  std::shared_ptr<EngineHost> host;
  std::vector<std::weak_ptr<EngineHost>> unloading;
  std::vector<Background> background;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    unloading.swap(unloading_);
    host.swap(host_);
    background.swap(background_);
  }
  if (host) host->Drain(until);
  host.reset();
  for (const auto& weak : unloading)
    if (const auto old = weak.lock()) old->Drain(until);
  for (Background& b : background) b.thread.join();
}

ModelInfo ModelSlot::Describe() const {
  MutexLock lock(mutex_);
  ModelInfo info;
  info.id = entry_.id;
  info.engine = entry_.engine;
  info.state = state_;
  info.capabilities = manifest_.capabilities;
  if (host_) {
    info.capabilities = host_->capabilities();
    info.max_model_len = host_->max_model_len();
    info.digest = host_->digest();
  }
  return info;
}

struct Load ModelSlot::load() const {
  MutexLock lock(mutex_);
  struct Load load = host_ ? host_->load() : cyllm::Load{};
  load.waiting += static_cast<uint32_t>(waiting_.size());
  return load;
}

bool ModelSlot::was_loaded() const {
  MutexLock lock(mutex_);
  return was_loaded_;
}

}  // namespace cyllm
