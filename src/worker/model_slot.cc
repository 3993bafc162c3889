#include "worker/model_slot.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <filesystem>
#include <future>

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
    : entry_(std::move(entry)),
      manifest_(std::move(manifest)),
      options_(std::move(options)),
      expected_bytes_(ExpectedBytes(entry_)) {
  if (options_.residency && entry_.idle_unload.count() > 0)
    options_.residency->UnloadWhenIdle(this, entry_.idle_unload);
}

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
  last_used_ = Clock::now();
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
  asked_to_load_ = true;
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
    if (!closed_ && !host && host.error().code == Code::kCancelled) {
      // Nobody waits any more; but somebody may have come just now.
      state_ = ModelState::kAvailable;
      if (!waiting_.empty()) StartLoading();
      return;
    }
    waiting.swap(waiting_);
    if (closed_) {
      end = Unavailable("the server is shutting down", "draining");
    } else if (host) {
      // No second owner here: whoever is answered below may unload it at once.
      host_ = std::move(*host);
      state_ = ModelState::kReady;
      was_loaded_ = true;
      asked_to_load_ = false;
      last_used_ = Clock::now();
      loaded_.capabilities = host_->capabilities();
      loaded_.max_model_len = host_->max_model_len();
      loaded_.digest = host_->digest();
      loaded_.memory_bytes = host_->memory_bytes();
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
  if (options_.residency) {
    uint64_t bytes = expected_bytes_;
    std::error_code none;
    if (bytes == 0 && model.contains("path"))
      bytes = std::filesystem::file_size(std::string(model["path"].as_string()), none);
    if (!options_.residency->HasRoom(this, none ? 0 : bytes))
      OnProgress(-1, "waiting for room for " + entry_.id);
    const Status room = options_.residency->Enter(this, none ? 0 : bytes, [this] { return Wanted(); });
    if (!room.ok()) return Err(room);
  }
  boost::json::object config;
  config["model"] = std::move(model);
  config["threads"] = options_.threads;
  Result<std::shared_ptr<EngineHost>> host = EngineHost::Load(
      manifest_, boost::json::serialize(config), options_.worker,
      [this](double fraction, std::string_view detail) { return OnProgress(fraction, std::string(detail)); },
      options_.prefixes, entry_.id, options_.stall);
  if (options_.residency && host) options_.residency->Loaded(this, (*host)->memory_bytes());
  if (options_.residency && !host) options_.residency->Left(this);
  return host;
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

bool ModelSlot::Wanted() {
  MutexLock lock(mutex_);
  if (closed_) return false;
  std::erase_if(waiting_, [](const auto& pipe) { return pipe->dropped(); });
  return asked_to_load_ || !waiting_.empty();
}

TimePoint ModelSlot::last_used() {
  MutexLock lock(mutex_);
  if (host_ && !host_->idle()) last_used_ = Clock::now();
  return last_used_;
}

bool ModelSlot::UnloadIfIdle() {
  MutexLock lock(mutex_);
  if (!host_) return state_ != ModelState::kLoading;
  // Others have the host while they hand it a request.
  if (host_.use_count() > 1 || !host_->idle()) return false;
  UnloadNow();
  return true;
}

void ModelSlot::Unload() {
  MutexLock lock(mutex_);
  if (host_) UnloadNow();
}

void ModelSlot::UnloadNow() {
  state_ = ModelState::kAvailable;
  std::erase_if(unloading_, [](const auto& host) { return host.expired(); });
  unloading_.push_back(host_);
  RunInBackground([this, host = std::exchange(host_, nullptr)]() mutable {
    const auto wait_for_others = [&host] {
      while (host.use_count() > 1) std::this_thread::sleep_for(Millis(1));
    };
    // Who found it before it was taken away, is handing it a request: that one is not refused.
    wait_for_others();
    std::future<void> gone = host->gone();
    host->Drain(kNever);
    // A reader that drops its stream or takes the last of it has the host for a moment.
    wait_for_others();
    host.reset();
    gone.wait();
    if (options_.residency) options_.residency->Left(this);
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
  info.capabilities = was_loaded_ ? loaded_.capabilities : manifest_.capabilities;
  info.max_model_len = loaded_.max_model_len;
  info.digest = loaded_.digest;
  info.adapters = entry_.adapters;
  if (info.adapters.empty() && std::ranges::count(manifest_.options, "adapters") > 0)
    info.capabilities &= ~uint32_t{kCapLora};
  info.memory_bytes = loaded_.memory_bytes;
  if (state_ == ModelState::kAvailable && options_.residency &&
      !options_.residency->HasRoom(this, expected_bytes_))
    info.state = ModelState::kCrowded;
  if (host_ && host_->stalled()) info.state = ModelState::kFailed;
  return info;
}

void ModelSlot::Watch(TimePoint now) {
  std::shared_ptr<EngineHost> host;
  {
    MutexLock lock(mutex_);
    host = host_;
  }
  if (host) host->Watch(now);
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
