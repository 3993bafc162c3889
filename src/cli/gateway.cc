// cy-llm gateway: HTTP in front of coordinators.
#include "gateway/gateway.h"

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <optional>

#include "base/log.h"
#include "base/metrics.h"
#include "base/mutex.h"
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
    fleet = Fleet::Make({.max_attempts = static_cast<uint32_t>(addresses.size()), .of_fleets = true});
    const std::string name = ProcessName("");
    for (const std::string& address : addresses) {
      RemoteOptions options;
      options.address = address;
      options.name = name;
      options.internal_token = settings.process.internal_token;
      options.tls = MakeTls(settings.process);
      // A prompt travels twice to an old peer: as the payload and flattened.
      options.max_message_bytes =
          std::max(options.max_message_bytes, 2 * static_cast<size_t>(settings.http.max_body_bytes));
      auto remote = RemoteService::Make(std::move(options), pool);
      fleet->Add(address, remote);
      const auto look = [this, raw = remote.get()] {
        fleet->Refresh(raw);
        MutexLock lock(count_mutex);
        healthy.Set(static_cast<double>(fleet->CountReady()));
      };
      remote->OnChange(look);
      look();
      remotes.push_back(std::move(remote));
    }
  }
  // A question goes to the first coordinator that answers; a change to all of them: the answer is the best
  // one, with `not_done` where another coordinator did not do it.
  HttpResponse Admin(const HttpRequest& request) const {
    const bool asks = request.method == "GET";
    std::optional<HttpResponse> best;
    boost::json::array not_done;
    for (const auto& remote : remotes) {
      HttpResponse response = AdminOf(*remote, request);
      const bool better = !best || response.status < best->status;
      if (asks && response.status < 500) return response;
      if (response.status >= 300)
        not_done.push_back({{"coordinator", remote->address()}, {"status", response.status}});
      if (better) best = std::move(response);
    }
    if (not_done.empty() || best->status >= 300) return *best;
    boost::system::error_code error;
    boost::json::value body = boost::json::parse(best->body, error);
    if (error || !body.is_object()) return *best;
    body.get_object()["not_done"] = std::move(not_done);
    best->body = boost::json::serialize(body);
    return *best;
  }

  static HttpResponse AdminOf(RemoteService& remote, const HttpRequest& request) {
    HttpResponse none{503, R"({"error":{"message":"no coordinator can be asked"}})"};
    if (remote.state() != RemoteState::kSession) return none;
    const std::string target = request.path + (request.query.empty() ? "" : "?" + request.query);
    const auto reply =
        remote.Control("admin", {{"method", request.method}, {"target", target}, {"body", request.body}},
                       Clock::now() + Millis(5'000));
    int status = 0;
    if (!reply || !reply->contains("http") || !reply->contains("body")) return none;
    const std::string& http = reply->at("http");
    std::from_chars(http.data(), http.data() + http.size(), status);
    if (status < 200 || status > 599) return none;
    return {status, reply->at("body")};
  }

  ~Coordinators() {
    for (const auto& remote : remotes) remote->Close();
  }

  std::shared_ptr<Fleet> fleet;
  std::vector<std::shared_ptr<RemoteService>> remotes;
  Mutex count_mutex;  // the latest count is what stays in the gauge
  prometheus::Gauge& healthy =
      Gauge("gateway_coordinators_healthy", "Coordinators that can take a request now");
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

  if (const Status status = CheckTls(MakeTls(values.process)); !status.ok()) return Fail(status, kExitUsage);
  IoPool pool(IoThreads(values.process, 2));
  Coordinators coordinators(values, pool);
  GatewayOptions options = MakeGatewayOptions(values.http);
  options.admin_key = values.admin_key;
  if (!values.admin_key.empty())
    options.admin = [&](const HttpRequest& request) { return coordinators.Admin(request); };
  Gateway gateway(options, pool,
                  std::make_shared<Resume>(coordinators.fleet, MakeResumeOptions(values.http)));
  if (const Status status = gateway.Start(); !status.ok()) return Fail(status);
  if (values.http.log_prompts) Log()->warn("gateway.log_prompts: the log holds what users write");
  process.SayListening("gateway",
                       (values.http.tls_certificate.empty() ? "http://" : "https://") + gateway.address());

  gateway.Drain(process.WaitForStop(
      values.process, [&] { ReloadGateway<GatewaySettings>(gateway, "cy-llm gateway", args); }));
  gateway.Stop();
  return kExitOk;
}

}  // namespace cyllm
