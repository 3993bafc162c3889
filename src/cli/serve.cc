// cy-llm serve: the same graph as three processes, without the sockets between them.
#include "cli/settings/serve.h"

#include "base/log.h"
#include "cli/gateway_options.h"
#include "cli/router.h"
#include "cli/startup.h"
#include "coordinator/coordinator.h"
#include "gateway/gateway.h"
#include "inference/resume.h"
#include "worker/worker.h"

namespace cyllm {

int RunServe(const Args& args) {
  ServeSettings values;
  Settings settings("cy-llm serve",
                    "Serves the models of this machine over the HTTP API, all in one process.");
  values.Declare(settings);
  CheckModelsToo(settings, args, values.models);
  if (const auto over = LoadSettings(settings, args)) return *over;
  ServerProcess process;
  process.BeginLog("serve", values.process, settings);
  if (!values.upstream.urls.empty()) return RunRouter(values, args, process);

  const std::string name = ProcessName("");
  const auto worker = Worker::Make(MakeWorkerOptions(values.models, name));
  if (!worker) return Fail(worker.error(), kExitUsage);
  IoPool pool(IoThreads(values.process, 8));
  const auto coordinator = Coordinator::Make({.name = name}, pool);
  coordinator->AddWorker(name, *worker);
  Gateway gateway(MakeGatewayOptions(values.http), pool,
                  std::make_shared<Resume>(coordinator, MakeResumeOptions(values.http)));
  if (const Status status = gateway.Start(); !status.ok()) return Fail(status);
  if (values.http.log_prompts) Log()->warn("gateway.log_prompts: the log holds what users write");
  process.SayListening("gateway",
                       (values.http.tls_certificate.empty() ? "http://" : "https://") + gateway.address());

  const auto loaded = [&]() -> std::optional<bool> {
    const Snapshot snapshot = (*worker)->Describe();
    const ModelInfo* model = snapshot.Find("default");
    if (model && model->state == ModelState::kLoading) return std::nullopt;
    return model && model->state != ModelState::kFailed;
  };
  if (values.models.preload && !process.AwaitStart(loaded)) {
    gateway.Stop();
    return Fail(Unavailable("the default model could not be loaded; the log says why"));
  }

  const TimePoint until = process.WaitForStop(
      values.process, [&] { ReloadGateway<ServeSettings>(gateway, "cy-llm serve", args); },
      (*worker)->close_grace());
  gateway.Drain(until);
  (*worker)->Drain(until);
  gateway.Stop();
  coordinator->Close();
  return kExitOk;
}

}  // namespace cyllm
