// cy-llm coordinator: gRPC in front of workers.
#include "coordinator/coordinator.h"

#include "cli/settings/address.h"
#include "cli/settings/coordinator.h"
#include "cli/startup.h"
#include "cli/status_http.h"
#include "inference/grpc_server.h"
#include "inference/resume.h"

namespace cyllm {

int RunCoordinator(const Args& args) {
  CoordinatorSettings values;
  Settings settings("cy-llm coordinator",
                    "Gives each request to a worker that has the model, and tries another where one fails.");
  values.Declare(settings);
  if (const auto over = LoadSettings(settings, args)) return *over;
  ServerProcess process;
  process.BeginLog("coordinator", values.process, settings);

  const std::string name = ProcessName(values.name);
  IoPool pool(IoThreads(values.process, 2));
  const auto coordinator = Coordinator::Make({.name = name,
                                              .workers = CanonicalAddresses(values.workers),
                                              .internal_token = values.process.internal_token,
                                              .max_attempts = static_cast<uint32_t>(values.max_attempts)},
                                             pool);
  GrpcServerOptions options;
  options.listen = CanonicalAddresses(values.listen);
  options.internal_token = values.process.internal_token;
  options.name = name;
  options.accept_serving_peers = true;
  options.edge = std::make_shared<Resume>(coordinator, ResumeOptions{});
  GrpcServer server(options, pool, coordinator, coordinator.get(), coordinator->Listener());
  StatusHttp http([&] { return coordinator->Describe(); });
  if (values.http_listen != "off") {
    if (const Status status = http.Start(values.http_listen); !status.ok()) return Fail(status);
    process.SayListening("coordinator-http", "http://" + http.address());
  }
  if (const Status status = server.Start(); !status.ok()) return Fail(status);
  process.SayListening("coordinator", options.listen, server.ports());

  const TimePoint until = process.WaitForStop(values.process);
  http.SayNotReady("draining");
  server.Drain(until);
  server.Stop();
  http.Stop();
  coordinator->Close();
  return kExitOk;
}

}  // namespace cyllm
