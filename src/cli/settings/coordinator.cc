#include "cli/settings/coordinator.h"

#include "cli/settings/address.h"

namespace cyllm {

void CoordinatorSettings::Declare(Settings& settings) {
  settings.ConfigFileFrom({"COORDINATOR_CONFIG"});
  settings.JsonKeys({{"workers", "coordinator.workers"}});
  settings.Add({.key = "coordinator.listen",
                .flag = "--listen",
                .env = {"COORDINATOR_GRPC_BIND", {"COORDINATOR_UDS_PATH", "unix:"}},
                .help = "Where to serve gRPC; port 0: any free port",
                .metavar = "ADDR[,ADDR]",
                .check = ListenAnyCheck()},
               &listen);
  settings.Add({.key = "coordinator.http_listen",
                .flag = "--http-listen",
                .env = {"CY_LLM_COORDINATOR_HTTP_LISTEN"},
                .help = "Where to serve /health, /ready and /metrics; off: nowhere",
                .metavar = "HOST:PORT",
                .check = {[tcp = ListenTcpCheck()](const std::string& s) { return s == "off" || tcp.ok(s); },
                          "host:port or off"}},
               &http_listen);
  settings.Add({.key = "coordinator.workers",
                .flag = "--workers",
                .env = {"WORKER_GRPC_ADDRS",
                        "WORKER_GRPC_ADDR",
                        {"WORKER_UDS_PATHS", "unix:"},
                        {"WORKER_UDS_PATH", "unix:"}},
                .help = "Workers to connect to; none: only those that register themselves",
                .metavar = "ADDR[,ADDR]",
                .check = DialOrNoneCheck()},
               &workers);
  settings.Add({.key = "coordinator.name",
                .flag = "--name",
                .help = "Name of this process in logs and towards its peers; empty: host and process id",
                .metavar = "NAME"},
               &name);
  settings.Add({.key = "coordinator.max_attempts",
                .flag = "--max-attempts",
                .help = "Workers tried for one request before its first token",
                .metavar = "N"},
               &max_attempts, 1, 100);
  process.DeclareInternalToken(settings,
                               "Token that workers ask for, and that registering workers must show");
  process.DeclareInsecure(settings,
                          "Allow an address that other machines can reach without an internal token",
                          {"CY_LLM_ALLOW_INSECURE_INTERNAL_TOKEN"});
  process.DeclareServer(settings);
  settings.AddCheck([this] {
    if (listen.empty()) return InvalidArgument("coordinator.listen: at least one address is needed");
    return CheckPublicBind(listen, process.internal_token, process.insecure, "set CY_LLM_INTERNAL_TOKEN");
  });
}

}  // namespace cyllm
