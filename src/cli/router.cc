#include "cli/router.h"

#include <fmt/format.h>

#include "base/log.h"
#include "cli/gateway_options.h"
#include "coordinator/coordinator.h"
#include "gateway/gateway.h"
#include "upstream/engine.h"
#include "upstream/upstream.h"

namespace cyllm {
namespace {

Result<std::vector<std::shared_ptr<Upstream>>> MakeUpstreams(const ServeSettings& values, IoPool& pool) {
  const upstream::Profile* profile = nullptr;
  if (!values.models.engine.empty()) {
    const auto found = upstream::ProfileOfEngine(values.models.engine);
    if (!found) return Err(found.error());
    profile = *found;
  }
  std::vector<std::shared_ptr<Upstream>> upstreams;
  for (const std::string& url : values.upstream.urls) {
    UpstreamOptions options;
    options.name = fmt::format("upstream-{}", upstreams.size() + 1);
    options.url = url;
    options.profile = profile;
    options.api_key = values.upstream.api_key;
    options.default_model = values.models.model;
    options.tls = {values.upstream.ca, values.upstream.cert, values.upstream.key};
    options.silence_limit = Millis(static_cast<int64_t>(values.upstream.silence_limit * 1000));
    auto made = Upstream::Make(std::move(options), pool.At(0));
    if (!made) return Err(made.error());
    Log()->info("upstream-{} is {}", upstreams.size() + 1, url);
    upstreams.push_back(std::move(*made));
  }
  return upstreams;
}

}  // namespace

int RunRouter(const ServeSettings& values, ServerProcess& process) {
  IoPool pool(IoThreads(values.process, 2));
  const auto upstreams = MakeUpstreams(values, pool);
  if (!upstreams) return Fail(upstreams.error(), kExitUsage);
  const auto coordinator = Coordinator::Make({.name = ProcessName("")}, pool);
  for (size_t i = 0; i < upstreams->size(); ++i)
    coordinator->AddWorker(fmt::format("upstream-{}", i + 1), (*upstreams)[i]);
  Gateway gateway(MakeGatewayOptions(values.http), pool,
                  std::make_shared<Resume>(coordinator, MakeResumeOptions(values.http)));
  const Status status = gateway.Start();
  if (status.ok()) {
    process.SayListening("gateway", "http://" + gateway.address());
    const TimePoint until = process.WaitForStop(values.process);
    gateway.Drain(until);
    for (const auto& upstream : *upstreams) upstream->Drain(until);
    gateway.Stop();
  }
  coordinator->Close();
  for (const auto& upstream : *upstreams) upstream->Close();
  return status.ok() ? kExitOk : Fail(status);
}

}  // namespace cyllm
