// cy-llm coordinator: gRPC in front of workers.
#include "coordinator/coordinator.h"

#include "cli/settings/address.h"
#include "cli/settings/coordinator.h"
#include "cli/startup.h"
#include "cli/status_http.h"
#include "coordinator/admin.h"
#include "gateway/access/tokens.h"
#include "inference/grpc_server.h"
#include "inference/resume.h"

namespace cyllm {

namespace {

Result<std::string> CanonicalDial(const std::string& text) {
  const auto address = ParseAddress(text);
  if (!address || (!address->is_unix() && address->port == 0))
    return Err(InvalidArgument("'" + text + "' is no address: host:port or unix:/path", "url"));
  return address->ToString();
}

StatusHttp::Handler AdminOverHttp(Coordinator& coordinator, const CoordinatorSettings& values) {
  const bool open = FirstPublic({values.http_listen}).empty();
  return [&coordinator, open,
          key = TokenSet(values.admin_key.empty()
                             ? std::vector<std::string>()
                             : std::vector{values.admin_key})](const HttpRequest& request) -> HttpResponse {
    const bool allowed =
        key.open() ? open : key.Allows(TokenOf(request.Header("Authorization"), request.Header("X-Api-Key")));
    if (!allowed && key.open())
      return {403,
              R"({"error":{"message":"set CY_LLM_ADMIN_KEY to use the admin API from other machines"}})"};
    if (!allowed) return {401, R"({"error":{"message":"a valid admin key is needed"}})"};
    const std::string target = request.path + (request.query.empty() ? "" : "?" + request.query);
    AdminReply reply = Admin(coordinator, request.method, target, request.body);
    return {reply.http, std::move(reply.body)};
  };
}

}  // namespace

int RunCoordinator(const Args& args) {
  CoordinatorSettings values;
  Settings settings("cy-llm coordinator",
                    "Gives each request to a worker that has the model, and tries another where one fails.");
  values.Declare(settings);
  if (const auto over = LoadSettings(settings, args)) return *over;
  ServerProcess process;
  process.BeginLog("coordinator", values.process, settings);

  const std::string name = ProcessName(values.name);
  if (const Status status = CheckTls(MakeTls(values.process)); !status.ok()) return Fail(status, kExitUsage);
  IoPool pool(IoThreads(values.process, 2));
  const auto coordinator =
      Coordinator::Make({.name = name,
                         .workers = CanonicalAddresses(values.workers),
                         .internal_token = values.process.internal_token,
                         .tls = MakeTls(values.process),
                         .max_attempts = static_cast<uint32_t>(values.max_attempts),
                         .policies = values.policy,
                         .max_waiting = static_cast<size_t>(values.max_waiting),
                         .prefix_index_bytes = static_cast<size_t>(values.prefix_index_mib) << 20,
                         .canonical_address = CanonicalDial},
                        pool);
  GrpcServerOptions options;
  options.listen = CanonicalAddresses(values.listen);
  options.internal_token = values.process.internal_token;
  options.tls = MakeTls(values.process);
  options.name = name;
  options.accept_serving_peers = true;
  options.edge = std::make_shared<Resume>(coordinator, ResumeOptions{});
  GrpcServer server(options, pool, coordinator, coordinator.get(), coordinator->Listener());
  StatusHttp http([&] { return coordinator->Describe(); });
  http.Serve("/workers", AdminOverHttp(*coordinator, values));
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
