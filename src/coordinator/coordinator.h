// The coordinator: one InferenceService in front of many workers. Retry on top of Pick on top of
// RemoteServices.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "async/io_pool.h"
#include "coordinator/worker_set.h"
#include "inference/grpc_server.h"
#include "inference/service.h"

namespace cyllm {

struct CoordinatorOptions {
  std::string name;
  std::vector<std::string> workers;       // addresses to dial; others register themselves
  std::string internal_token;             // sent to workers
  GrpcTls tls;                            // towards workers
  uint32_t max_attempts = 3;              // per request, before its first event
  std::string policies = "prefix_aware";  // of the fleet, and of single models: "p,model=q"
  size_t max_waiting = 1'024;             // per model, when every worker is overloaded
  size_t prefix_index_bytes = 48u << 20;  // of what prefix_aware remembers, at most
  // The form in which addresses are compared, or why it is none; null: as they are.
  std::function<Result<std::string>(const std::string&)> canonical_address;
  Millis drain{30'000};  // of a worker that is drained or removed without a deadline
};

class Coordinator : public InferenceService, public ControlHandler {
 public:
  static std::shared_ptr<Coordinator> Make(CoordinatorOptions options, IoPool& pool);
  ~Coordinator() override;

  EventStream Infer(Request request, Context context) override;
  Snapshot Describe() const override;  // of the fleet: models of all workers, ready when one worker is
  ControlReply Control(const std::string& command,
                       const std::map<std::string, std::string>& payload) override;
  HealthReply Health() override;

  WorkerSet& workers();
  const CoordinatorOptions& options() const;

  // A worker in this process, or one that attached by itself (GrpcServer's AttachListener).
  void AddWorker(const std::string& name, std::shared_ptr<InferenceService> worker);
  void RemoveWorker(const std::shared_ptr<InferenceService>& worker);
  AttachListener Listener();

  void Close();

 private:
  struct Impl;
  explicit Coordinator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cyllm
