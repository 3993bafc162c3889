#include "cli/router.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <thread>

#include "base/log.h"
#include "cli/gateway_options.h"
#include "coordinator/coordinator.h"
#include "gateway/gateway.h"
#include "upstream/engine.h"
#include "upstream/upstream.h"

namespace cyllm {
namespace {

// The servers in front of which the router stands, by URL. Main thread only.
class Servers {
 public:
  Servers(std::shared_ptr<Coordinator> coordinator, IoPool& pool)
      : coordinator_(std::move(coordinator)), pool_(pool) {}

  // Makes them those of the settings. Who stays goes on as it is, also with the key and the files that it was
  // begun with; who is gone ends what it began, for `drain` at most. An error changes nothing.
  Status Apply(const ServeSettings& values, Millis drain) {
    const upstream::Profile* profile = nullptr;
    if (!values.models.engine.empty()) {
      const auto found = upstream::ProfileOfEngine(values.models.engine);
      if (!found) return found.error();
      profile = *found;
    }
    std::map<std::string, std::shared_ptr<Upstream>> wanted;
    struct Fresh {
      std::string name, url;
      std::shared_ptr<Upstream> server;
    };
    std::vector<Fresh> fresh;  // in the order of the settings
    for (const std::string& url : values.upstream.urls) {
      if (const auto known = servers_.find(url); known != servers_.end()) {
        wanted.insert(*known);
        continue;
      }
      if (wanted.contains(url)) continue;
      UpstreamOptions options;
      options.name = fmt::format("upstream-{}", number_ + fresh.size() + 1);
      options.url = url;
      options.profile = profile;
      options.api_key = values.upstream.api_key;
      options.default_model = values.models.model;
      options.tls = {values.upstream.ca, values.upstream.cert, values.upstream.key};
      options.silence_limit = Millis(static_cast<int64_t>(values.upstream.silence_limit * 1000));
      const std::string name = options.name;
      auto made = Upstream::Make(std::move(options), pool_.At(0));
      if (!made) return made.error();
      fresh.push_back({name, url, *made});
      wanted.emplace(url, *made);
    }
    number_ += fresh.size();
    for (const auto& [name, url, server] : fresh) {
      Log()->info("{} is {}", name, url);
      coordinator_->AddWorker(name, server);
    }
    for (const auto& [url, server] : servers_) {
      if (wanted.contains(url)) continue;
      Log()->info("{} is not asked any more", url);
      coordinator_->RemoveWorker(server);
      leaving_.emplace_back([server, until = Clock::now() + drain] {
        server->Drain(until);
        server->Close();
      });
    }
    servers_ = std::move(wanted);
    return Status::Ok();
  }

  void Drain(TimePoint until) {
    for (const auto& [url, server] : servers_) server->Drain(until);
    leaving_.clear();
  }
  void Close() {
    for (const auto& [url, server] : servers_) server->Close();
  }

 private:
  const std::shared_ptr<Coordinator> coordinator_;
  IoPool& pool_;
  std::map<std::string, std::shared_ptr<Upstream>> servers_;
  std::vector<std::jthread> leaving_;
  size_t number_ = 0;  // of those that there ever were
};

void Reload(Servers& servers, Gateway& gateway, const Args& args) {
  ServeSettings values;
  Settings settings("cy-llm serve", "");
  values.Declare(settings);
  const auto loaded = settings.Load(args, ProcessEnv);
  Status status = loaded ? Status::Ok() : loaded.error();
  if (status.ok() && values.upstream.urls.empty())
    status = InvalidArgument("upstream.urls is empty: restart to serve models of this machine");
  if (status.ok()) status = gateway.Reload(MakeGatewayOptions(values.http));
  if (status.ok())
    status = servers.Apply(values, Millis(static_cast<int64_t>(values.process.drain_timeout * 1000)));
  if (status.ok()) {
    Log()->info("SIGHUP: the configuration was read again");
  } else {
    Log()->error("SIGHUP: not all of it was taken over: {}", status.message);
  }
}

}  // namespace

int RunRouter(const ServeSettings& values, const Args& args, ServerProcess& process) {
  IoPool pool(IoThreads(values.process, 2));
  const auto coordinator = Coordinator::Make({.name = ProcessName("")}, pool);
  Servers servers(coordinator, pool);
  if (const Status status = servers.Apply(values, Millis(0)); !status.ok()) return Fail(status, kExitUsage);
  Gateway gateway(MakeGatewayOptions(values.http), pool,
                  std::make_shared<Resume>(coordinator, MakeResumeOptions(values.http)));
  const Status status = gateway.Start();
  if (status.ok()) {
    process.SayListening("gateway",
                         (values.http.tls_certificate.empty() ? "http://" : "https://") + gateway.address());
    const TimePoint until = process.WaitForStop(values.process, [&] { Reload(servers, gateway, args); });
    gateway.Drain(until);
    servers.Drain(until);
    gateway.Stop();
  }
  coordinator->Close();
  servers.Close();
  return status.ok() ? kExitOk : Fail(status);
}

}  // namespace cyllm
