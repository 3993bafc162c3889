#include "coordinator/coordinator.h"

#include <algorithm>

#include "base/log.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "coordinator/routing/pick.h"
#include "inference/fleet.h"
#include "inference/remote_service.h"

namespace cyllm {
namespace {

constexpr Millis kControlDeadline{5'000};

}  // namespace

struct Coordinator::Impl {
  Impl(CoordinatorOptions o, IoPool& pool)
      : options(std::move(o)), fleet(Fleet::Make(PickRoundRobin, options.max_attempts)) {
    for (const std::string& address : options.workers) {
      RemoteOptions remote;
      remote.address = address;
      remote.name = options.name;
      remote.internal_token = options.internal_token;
      auto worker = RemoteService::Make(std::move(remote), pool);
      fleet->Add(address, worker);
      worker->OnChange([this, raw = worker.get()] { Changed(raw); });
      Changed(worker.get());
      remotes.push_back(std::move(worker));
    }
  }

  void Changed(const InferenceService* worker) {
    fleet->Refresh(worker);
    CountReady();
  }

  void CountReady() {
    const auto backends = fleet->backends();
    ready.Set(
        static_cast<double>(std::count_if(backends->begin(), backends->end(), [](const Fleet::Backend& b) {
          return b.live ? b.service->Describe().ready : b.snapshot->ready;
        })));
  }

  const CoordinatorOptions options;
  const std::shared_ptr<Fleet> fleet;
  std::vector<std::shared_ptr<RemoteService>> remotes;
  prometheus::Counter& requests = Counter("coordinator_inference_requests_total", "Requests taken in");
  prometheus::Gauge& ready = Gauge("coordinator_workers_healthy", "Workers that can answer a request now");
};

Coordinator::Coordinator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Coordinator::~Coordinator() { Close(); }

std::shared_ptr<Coordinator> Coordinator::Make(CoordinatorOptions options, IoPool& pool) {
  return std::shared_ptr<Coordinator>(new Coordinator(std::make_unique<Impl>(std::move(options), pool)));
}

EventStream Coordinator::Infer(Request request, Context context) {
  impl_->requests.Increment();
  return impl_->fleet->Infer(std::move(request), std::move(context));
}

Snapshot Coordinator::Describe() const { return impl_->fleet->Describe(); }

ControlReply Coordinator::Control(const std::string& command,
                                  const std::map<std::string, std::string>& payload) {
  if (command == "ping") return {{"status", "ok"}, {"message", "pong"}};
  if (command == "list_models") {
    std::string ids;
    for (const ModelInfo& model : Describe().models) ids += (ids.empty() ? "" : ",") + model.id;
    return {{"status", "ok"}, {"models", ids}};
  }
  // Everything else concerns every worker: ok when all that can be reached say ok.
  ControlReply answer;
  const TimePoint deadline = Clock::now() + kControlDeadline;
  const auto merge = [&](const std::string& name, const ControlReply& reply) {
    const auto status = reply.find("status");
    if (status != reply.end() && status->second == "ok") {
      answer.try_emplace("status", "ok");
    } else {
      answer["status"] = "error";
      const auto message = reply.find("message");
      answer["message"] = name + ": " + (message == reply.end() ? "no reason given" : message->second);
    }
  };
  for (const auto& backend : *impl_->fleet->backends()) {
    if (auto* local = dynamic_cast<ControlHandler*>(backend.service.get())) {
      merge(backend.name, local->Control(command, payload));
    } else if (auto* remote = dynamic_cast<RemoteService*>(backend.service.get())) {
      if (remote->state() == RemoteState::kDown) continue;
      const auto reply = remote->Control(command, payload, deadline);
      merge(backend.name,
            reply ? *reply : ControlReply{{"status", "error"}, {"message", reply.error().message}});
    } else {
      merge(backend.name,
            {{"status", "error"}, {"message", "it registered itself and cannot be told from here"}});
    }
  }
  if (answer.empty())
    return {{"status", "error"}, {"message", "no worker is available"}, {"error", "worker_not_configured"}};
  return answer;
}

HealthReply Coordinator::Health() {
  const Snapshot snapshot = Describe();
  HealthReply health;
  health.healthy = snapshot.ready;
  const auto backends = impl_->fleet->backends();
  health.metrics["workers"] = std::to_string(backends->size());
  health.metrics["workers_healthy"] = std::to_string(static_cast<int>(impl_->ready.Value()));
  health.metrics["requests_inflight"] = std::to_string(snapshot.load.running);
  if (backends->empty()) health.metrics["error"] = "worker_not_configured";
  return health;
}

void Coordinator::AddWorker(const std::string& name, std::shared_ptr<InferenceService> worker) {
  impl_->fleet->Add(name, std::move(worker), /*live=*/true);
  impl_->CountReady();
}

void Coordinator::RemoveWorker(const std::shared_ptr<InferenceService>& worker) {
  impl_->fleet->Remove(worker.get());
  impl_->CountReady();
}

AttachListener Coordinator::Listener() {
  AttachListener listener;
  listener.on_attached = [this](const AttachedPeer& peer) {
    Log()->info("worker '{}' registered", peer.name);
    impl_->fleet->Add(peer.name, peer.service);
    impl_->CountReady();
  };
  listener.on_changed = [this](const AttachedPeer& peer) { impl_->Changed(peer.service.get()); };
  listener.on_gone = [this](const AttachedPeer& peer) {
    Log()->warn("a registered worker went away");
    RemoveWorker(peer.service);
  };
  return listener;
}

void Coordinator::Close() {
  for (auto& remote : impl_->remotes) remote->Close();
}

}  // namespace cyllm
