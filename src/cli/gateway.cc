// cy-llm gateway: HTTP in front of coordinators.
#include "gateway/gateway.h"

#include <algorithm>

#include "cli/gateway_options.h"
#include "cli/settings/address.h"
#include "cli/startup.h"
#include "inference/fleet.h"
#include "inference/remote_service.h"
#include "inference/resume.h"

namespace cyllm {
namespace {

// The coordinators as one service: the first that is ready answers, the others stand in for it.
struct Coordinators {
  Coordinators(const GatewaySettings& settings, IoPool& pool) {
    const std::vector<std::string> addresses = CanonicalAddresses(settings.coordinators);
    fleet = Fleet::Make(PickFirst, static_cast<uint32_t>(addresses.size()));
    const std::string name = ProcessName("");
    for (const std::string& address : addresses) {
      RemoteOptions options;
      options.address = address;
      options.name = name;
      options.internal_token = settings.process.internal_token;
      // A prompt travels twice to an old peer: as the payload and flattened.
      options.max_message_bytes =
          std::max(options.max_message_bytes, 2 * static_cast<size_t>(settings.http.max_body_bytes));
      auto remote = RemoteService::Make(std::move(options), pool);
      fleet->Add(address, remote);
      remote->OnChange([fleet = fleet, raw = remote.get()] { fleet->Refresh(raw); });
      fleet->Refresh(remote.get());
      remotes.push_back(std::move(remote));
    }
  }
  ~Coordinators() {
    for (const auto& remote : remotes) remote->Close();
  }

  std::shared_ptr<Fleet> fleet;
  std::vector<std::shared_ptr<RemoteService>> remotes;
};

}  // namespace

int RunGateway(const Args& args) {
  GatewaySettings values;
  Settings settings("cy-llm gateway",
                    "Serves the HTTP API (OpenAI's form) and asks coordinators for the answers.");
  values.Declare(settings);
  if (const auto over = LoadSettings(settings, args)) return *over;
  ServerProcess process;
  process.BeginLog("gateway", values.process, settings);

  IoPool pool(IoThreads(values.process, 2));
  Coordinators coordinators(values, pool);
  Gateway gateway(MakeGatewayOptions(values.http), pool,
                  std::make_shared<Resume>(coordinators.fleet, MakeResumeOptions(values.http)));
  if (const Status status = gateway.Start(); !status.ok()) return Fail(status);
  process.SayListening("gateway", "http://" + gateway.address());

  gateway.Drain(process.WaitForStop(values.process));
  gateway.Stop();
  return kExitOk;
}

}  // namespace cyllm
