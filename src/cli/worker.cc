// cy-llm worker: the models of this machine over gRPC.
#include "worker/worker.h"

#include "base/log.h"
#include "cli/settings/address.h"
#include "cli/settings/worker.h"
#include "cli/startup.h"
#include "cli/status_http.h"
#include "inference/grpc_server.h"
#include "inference/remote_service.h"

namespace cyllm {
namespace {

std::vector<std::shared_ptr<RemoteService>> Register(const WorkerSettings& values, const std::string& name,
                                                     const std::shared_ptr<Worker>& worker, IoPool& pool) {
  std::vector<std::shared_ptr<RemoteService>> registrations;
  for (const std::string& address : CanonicalAddresses(values.coordinators)) {
    RemoteOptions options;
    options.address = address;
    options.name = name;
    options.internal_token = values.process.internal_token;
    options.tls = MakeTls(values.process);
    options.offer = worker;
    registrations.push_back(RemoteService::Make(std::move(options), pool));
  }
  return registrations;
}

}  // namespace

int RunWorker(const Args& args) {
  WorkerSettings values;
  Settings settings("cy-llm worker",
                    "Serves the models of this machine, each on its engine, to coordinators.");
  values.Declare(settings);
  CheckModelsToo(settings, args, values.models);
  if (const auto over = LoadSettings(settings, args)) return *over;
  ServerProcess process;
  process.BeginLog("worker", values.process, settings);

  const std::string name = ProcessName(values.name);
  const auto worker = Worker::Make(MakeWorkerOptions(values.models, name));
  if (!worker) return Fail(worker.error(), kExitUsage);
  if (const Status status = CheckTls(MakeTls(values.process)); !status.ok()) return Fail(status, kExitUsage);
  IoPool pool(IoThreads(values.process, 8));
  GrpcServerOptions options;
  options.listen = values.Listen();
  options.internal_token = values.process.internal_token;
  options.tls = MakeTls(values.process);
  options.name = name;
  options.max_prompt_chars = static_cast<size_t>(values.models.max_prompt_chars);
  GrpcServer server(options, pool, *worker, worker->get());
  StatusHttp http([&] { return (*worker)->Describe(); });
  if (values.health_port >= 0) {
    const Address address{values.host, static_cast<int>(values.health_port), ""};
    if (const Status status = http.Start(address.ToString()); !status.ok()) return Fail(status);
    process.SayListening("worker-http", "http://" + http.address());
  }
  if (const Status status = server.Start(); !status.ok()) return Fail(status);
  process.SayListening("worker", options.listen, server.ports());
  Log()->info("Worker gRPC 服务已启动");  // the contract's readiness line
  const auto registrations = Register(values, name, *worker, pool);

  const TimePoint until = process.WaitForStop(values.process, {}, (*worker)->close_grace());
  http.SayNotReady("draining");
  for (const auto& registration : registrations) registration->BeginDrain();  // all hear it at once
  server.BeginDrain();
  for (const auto& registration : registrations) registration->Drain(until);
  server.Drain(until);
  (*worker)->Drain(until);
  for (const auto& registration : registrations) registration->Close();
  server.Stop();
  http.Stop();
  return kExitOk;
}

}  // namespace cyllm
