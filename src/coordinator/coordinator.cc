#include "coordinator/coordinator.h"

#include <algorithm>

#include "base/log.h"
#include "base/metrics.h"
#include "coordinator/admin.h"
#include "coordinator/routing/router.h"
#include "inference/fleet.h"
#include "inference/remote_service.h"

namespace cyllm {
namespace {

constexpr Millis kControlDeadline{5'000};

}  // namespace

struct Coordinator::Impl {
  Impl(CoordinatorOptions o, IoPool& pool)
      : options(std::move(o)),
        fleet(Fleet::Make({.picker = MakeRouter(options),
                           .max_attempts = options.max_attempts,
                           .queue = {.max_waiting = options.max_waiting}})),
        workers(fleet, DialOptions(options), pool) {
    for (const std::string& address : options.workers) {
      if (const auto added = workers.Dial(address); !added) Log()->warn("{}", added.error().message);
    }
  }

  static std::shared_ptr<Router> MakeRouter(const CoordinatorOptions& options) {
    RouterOptions router;
    router.prefix_index_bytes = options.prefix_index_bytes;
    if (const Status status = ParsePolicies(options.policies, &router); !status.ok())
      Log()->error("routing policy: {}", status.message);  // the settings have checked it
    return std::make_shared<Router>(std::move(router));
  }

  static RemoteOptions DialOptions(const CoordinatorOptions& options) {
    RemoteOptions remote;
    remote.name = options.name;
    remote.internal_token = options.internal_token;
    remote.tls = options.tls;
    return remote;
  }

  const CoordinatorOptions options;
  const std::shared_ptr<Fleet> fleet;
  WorkerSet workers;
  prometheus::Counter& requests = Counter("coordinator_inference_requests_total", "Requests taken in");
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
  if (command == "admin") return AdminControl(*this, payload);
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
  for (const Fleet::Row& row : impl_->fleet->table()->rows) {
    const Fleet::Backend& backend = *row.backend;
    if (auto* local = dynamic_cast<ControlHandler*>(backend.service.get())) {
      merge(backend.name, local->Control(command, payload));
    } else if (const auto remote = impl_->workers.Connection(backend.service.get())) {
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
  const auto workers = impl_->workers.List();
  health.metrics["workers"] = std::to_string(workers.size());
  health.metrics["workers_healthy"] = std::to_string(std::ranges::count_if(workers, &WorkerStatus::healthy));
  health.metrics["requests_inflight"] = std::to_string(snapshot.load.running);
  health.metrics["requests_waiting"] = std::to_string(snapshot.load.waiting);
  if (workers.empty()) health.metrics["error"] = "worker_not_configured";
  return health;
}

WorkerSet& Coordinator::workers() { return impl_->workers; }

const CoordinatorOptions& Coordinator::options() const { return impl_->options; }

void Coordinator::AddWorker(const std::string& name, std::shared_ptr<InferenceService> worker) {
  impl_->workers.Add(name, std::move(worker), /*local=*/true);
}

void Coordinator::RemoveWorker(const std::shared_ptr<InferenceService>& worker) {
  impl_->workers.Forget(worker.get());
}

AttachListener Coordinator::Listener() {
  AttachListener listener;
  listener.on_attached = [this](const AttachedPeer& peer) {
    Log()->info("worker '{}' registered", peer.name);
    impl_->workers.Add(peer.name, peer.service, /*local=*/false);
  };
  listener.on_changed = [this](const AttachedPeer& peer) { impl_->workers.Changed(peer.service.get()); };
  listener.on_gone = [this](const AttachedPeer& peer) {
    Log()->warn("a registered worker went away");
    impl_->workers.Forget(peer.service.get(), peer.left);
  };
  return listener;
}

void Coordinator::Close() { impl_->workers.Close(); }

}  // namespace cyllm
