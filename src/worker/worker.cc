#include "worker/worker.h"

#include <algorithm>
#include <boost/json.hpp>
#include <thread>

#include "base/log.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "upstream/engine.h"
#include "worker/deadline.h"
#include "worker/engine_host/plugin.h"
#include "worker/isolated_slot.h"
#include "worker/model_slot.h"
#include "worker/models/registry.h"
#include "worker/observed.h"
#include "worker/upstream_slot.h"

namespace cyllm {

namespace {

// The contract's `hybrid`: the first of these that is here.
struct HybridEngine {
  std::string engine, why;
};
HybridEngine HybridChoice() {
  for (const char* engine : {"vllm", "trtllm"}) {
    const std::string program = upstream::ProgramOf(*upstream::FindProfile(engine));
    if (!FindExecutable(program).empty()) return {engine, "there is a program " + program};
  }
  return {"llama_cpp", "neither vllm nor trtllm-serve is here"};
}

// What `hybrid` stands for on this machine, under that name; said in the log.
EngineFacts Hybrid(const std::vector<EngineFacts>& facts) {
  const HybridEngine choice = HybridChoice();
  for (EngineFacts fact : facts) {
    if (fact.name != choice.engine) continue;
    fact.name = "hybrid";
    return fact;
  }
  return {};
}

}  // namespace

struct Worker::Impl {
  WorkerOptions options;
  std::string default_id;
  std::unique_ptr<IoPool> io;            // where servers are looked at; outlives the slots
  std::shared_ptr<Residency> residency;  // outlives the slots
  std::vector<std::shared_ptr<Slot>> slots;
  std::shared_ptr<WorkerMetrics> metrics = std::make_shared<WorkerMetrics>();
  const std::shared_ptr<PrefixLog> prefixes = std::make_shared<PrefixLog>();
  int64_t created = 0;
  std::atomic<bool> draining{false};

  Mutex mutex;
  CondVar changed;
  bool over CY_GUARDED_BY(mutex) = false;
  std::thread watch;  // of the slots

  void Watch() {
    constexpr Millis kLook{500};
    while (true) {
      for (const auto& slot : slots) slot->Watch(Clock::now());
      MutexLock lock(mutex);
      if (!over) changed.WaitUntil(mutex, Clock::now() + kLook);
      if (over) return;
    }
  }
  ~Impl() {
    {
      MutexLock lock(mutex);
      over = true;
      changed.NotifyAll();
    }
    if (watch.joinable()) watch.join();
  }

  std::shared_ptr<Slot> Find(const std::string& id) const {
    const auto by = [&](const std::string& name) -> std::shared_ptr<Slot> {
      const auto it =
          std::find_if(slots.begin(), slots.end(), [&](const auto& s) { return s->id() == name; });
      return it == slots.end() ? nullptr : *it;
    };
    if (auto slot = by(id)) return slot;
    return id.empty() || id == "default" ? by(default_id) : nullptr;
  }
};

Worker::Worker(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Worker::~Worker() { Drain(Clock::now()); }

Result<std::shared_ptr<Worker>> Worker::Make(WorkerOptions options) {
  Result<std::vector<Manifest>> manifests = ReadManifests(options.engine_dir);
  if (!manifests) return Err(manifests.error());
  std::vector<EngineFacts> facts;
  for (const Manifest& m : *manifests)
    facts.push_back({m.name, m.needs_model_file, m.default_model, m.default_source, m.options});
  for (const upstream::EngineName& engine : upstream::EngineNames()) {
    EngineFacts server{std::string(engine.name), false, "", "", {}};
    server.options = UpstreamSlotOptions(*upstream::FindProfile(engine.profile));
    server.is_server = true;
    facts.push_back(std::move(server));
  }
  if (const EngineFacts hybrid = Hybrid(facts); !hybrid.name.empty()) facts.push_back(hybrid);
  Result<Registry> registry = ReadRegistry(
      {options.registry_json, options.registry_path, options.default_model, options.default_engine}, facts);
  if (!registry) return Err(registry.error());
  for (const std::string& warning : registry->warnings) Log()->warn("{}", warning);

  auto impl = std::make_unique<Impl>();
  impl->default_id = registry->default_id;
  impl->residency = std::make_shared<Residency>(options.residency);
  impl->created =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  for (ModelEntry& entry : registry->models) {
    if (entry.engine == "hybrid") {
      const HybridEngine choice = HybridChoice();
      Log()->info("model '{}': engine hybrid is {} here: {}", entry.id, choice.engine, choice.why);
      entry.engine = choice.engine;
    }
    if (upstream::ProfileOfEngine(entry.engine)) {
      if (!impl->io) impl->io = std::make_unique<IoPool>(1, "upstream");
      auto slot = UpstreamSlot::Make(entry, options.name, impl->io->At(0));
      if (!slot) return Err(slot.error());
      impl->slots.push_back(std::move(*slot));
      continue;
    }
    const auto manifest = std::find_if(manifests->begin(), manifests->end(),
                                       [&](const Manifest& m) { return m.name == entry.engine; });
    if (entry.isolated) {
      if (!impl->io) impl->io = std::make_unique<IoPool>(1, "upstream");
      const IsolatedSlotOptions to{options.name,      options.engine_dir,     options.model_cache,
                                   options.threads,   manifest->capabilities, impl->residency,
                                   options.stall.late};
      impl->slots.push_back(IsolatedSlot::Make(std::move(entry), to, *impl->io));
      continue;
    }
    impl->slots.push_back(std::make_shared<ModelSlot>(std::move(entry), *manifest,
                                                      ModelSlotOptions{.worker = options.name,
                                                                       .model_cache = options.model_cache,
                                                                       .threads = options.threads,
                                                                       .prefixes = impl->prefixes,
                                                                       .residency = impl->residency,
                                                                       .stall = options.stall}));
  }
  impl->options = std::move(options);
  if (impl->options.stall.late.count() > 0) impl->watch = std::thread([raw = impl.get()] { raw->Watch(); });
  std::shared_ptr<Worker> worker(new Worker(std::move(impl)));
  if (worker->impl_->options.preload) {
    if (Status status = worker->Preload("default"); !status.ok()) return Err(std::move(status));
  }
  return worker;
}

EventStream Worker::Infer(Request request, Context context) {
  if (impl_->draining) return EndedStream(Unavailable("the server is shutting down", "draining"));
  const std::shared_ptr<Slot> slot = impl_->Find(request.facts.model);
  if (!slot) {
    return EndedStream(MakeStatus(Code::kNotFound,
                                  "Model '" + request.facts.model + "' not found in registry",
                                  "model_not_found", "model"));
  }
  const TimePoint deadline = context.deadline;
  return Observe(UntilDeadline(slot->Infer(std::move(request), std::move(context)), deadline),
                 impl_->metrics);
}

Snapshot Worker::Describe() const {
  Snapshot snapshot;
  snapshot.name = impl_->options.name;
  bool preloading = false;
  std::string failed;
  for (const auto& slot : impl_->slots) {
    ModelInfo info = slot->Describe();
    info.created = impl_->created;
    const Load load = slot->load();
    snapshot.load.running += load.running;
    snapshot.load.waiting += load.waiting;
    snapshot.load.max_running += load.max_running;
    snapshot.ready |= info.state != ModelState::kFailed;
    if (info.state == ModelState::kFailed) failed += (failed.empty() ? "" : ", ") + info.id;
    if (slot->id() == impl_->default_id) {
      preloading = impl_->options.preload && !slot->was_loaded() && info.state != ModelState::kFailed;
      if (info.id != "default") {
        ModelInfo alias = info;
        alias.id = "default";
        alias.alias_of = info.id;
        snapshot.models.push_back(std::move(alias));
      }
    }
    snapshot.models.push_back(std::move(info));
  }
  std::sort(snapshot.models.begin(), snapshot.models.end(),
            [](const ModelInfo& a, const ModelInfo& b) { return a.id < b.id; });
  if (!failed.empty()) snapshot.not_ready_reasons.push_back("failed: " + failed);
  if (preloading) snapshot.not_ready_reasons.push_back("loading the default model");
  if (impl_->draining) snapshot.not_ready_reasons = {"draining"};
  snapshot.ready = snapshot.ready && !preloading && !impl_->draining;
  if (snapshot.ready) snapshot.not_ready_reasons.clear();
  return snapshot;
}

PrefixChanges Worker::PrefixesSince(uint64_t& cursor) const {
  constexpr size_t kAtOnce = 4'096;  // 32 KiB of a heartbeat
  for (const auto& slot : impl_->slots) slot->CollectPrefixes(*impl_->prefixes);
  return impl_->prefixes->Since(cursor, kAtOnce);
}

ControlReply Worker::Control(const std::string& command, const std::map<std::string, std::string>& payload) {
  if (command == "ping") return {{"status", "ok"}, {"message", "pong"}};
  if (command == "list_models") {
    std::string ids;
    for (const ModelInfo& model : Describe().models) ids += (ids.empty() ? "" : ",") + model.id;
    return {{"status", "ok"}, {"models", ids}};
  }
  if (command == "unload_model") {
    const auto id = payload.find("model_id");
    if (id == payload.end() || id->second.empty())
      return {{"status", "error"}, {"message", "Missing model_id"}};
    const auto slot = impl_->Find(id->second);
    if (!slot) return {{"status", "error"}, {"message", "Model '" + id->second + "' not found in registry"}};
    slot->Unload();
    return {{"status", "ok"}};
  }
  return {{"status", "error"}, {"message", "Unknown command: " + command}};
}

HealthReply Worker::Health() {
  const Snapshot snapshot = Describe();
  HealthReply health;
  health.healthy = snapshot.ready;
  const WorkerMetrics& m = *impl_->metrics;
  health.metrics = {
      {"requests_inflight", std::to_string(static_cast<int64_t>(m.inflight.Value()))},
      {"requests_success", std::to_string(static_cast<int64_t>(m.success.Value()))},
      {"requests_failed", std::to_string(static_cast<int64_t>(m.failed.Value()))},
      {"backend", impl_->Find("default")->engine()},
      {"cuda_available", "False"},
      {"ascend_available", "False"},
  };
  return health;
}

Status Worker::Preload(const std::string& model) {
  const auto slot = impl_->Find(model);
  if (!slot)
    return MakeStatus(Code::kNotFound, "Model '" + model + "' not found in registry", "model_not_found");
  slot->StartLoad();
  return Status::Ok();
}

void Worker::Drain(TimePoint until) {
  impl_->draining = true;
  impl_->residency->Stop();
  std::vector<std::jthread> closing;  // beside each other: one that hangs leaves the others their time
  for (const auto& slot : impl_->slots) closing.emplace_back([&slot, until] { slot->Close(until); });
}

Millis Worker::close_grace() const {
  Millis longest{0};
  for (const auto& slot : impl_->slots) longest = std::max(longest, slot->close_grace());
  return longest;
}

}  // namespace cyllm
