#include "cli/settings/coordinator.h"

#include <algorithm>
#include <string_view>

#include "cli/settings/address.h"

namespace cyllm {

namespace {

// "POLICY[,MODEL=POLICY]...", as coordinator/routing/router.h reads it.
bool IsPolicies(const std::string& text) {
  constexpr std::string_view kNames[] = {"round_robin",  "random",          "least_load",
                                         "power_of_two", "consistent_hash", "prefix_aware"};
  for (size_t from = 0; from <= text.size();) {
    const size_t comma = std::min(text.find(',', from), text.size());
    const std::string_view entry = std::string_view(text).substr(from, comma - from);
    const size_t equals = entry.rfind('=');
    const bool bad_model = equals == 0;
    if (bad_model || std::ranges::find(kNames, entry.substr(equals + 1)) == std::end(kNames)) return false;
    from = comma + 1;
  }
  return true;
}

}  // namespace

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
                .help = "Where to serve /health, /ready, /metrics and /workers; off: nowhere",
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
  settings.Add({.key = "coordinator.policy",
                .flag = "--policy",
                .env = {"CY_LLM_ROUTING_POLICY"},
                .help = "How a worker is chosen: round_robin, random, least_load, power_of_two, "
                        "consistent_hash, prefix_aware; after it, MODEL=POLICY for single models",
                .metavar = "POLICY[,MODEL=POLICY]",
                .check = {IsPolicies,
                          "round_robin, random, least_load, power_of_two, consistent_hash or prefix_aware; "
                          "then, after commas, MODEL=POLICY"}},
               &policy);
  settings.Add({.key = "coordinator.max_waiting",
                .flag = "--max-waiting",
                .help = "Requests per model that may wait while every worker is overloaded",
                .metavar = "N"},
               &max_waiting, 0, 1'000'000);
  settings.Add(
      {.key = "coordinator.prefix_index_mib",
       .flag = "--prefix-index-mib",
       .help = "Memory for what prefix_aware remembers, at most: 14,000 blocks of 256 bytes of prompts "
               "in each MiB, their number rounded down to a power of two",
       .metavar = "MIB"},
      &prefix_index_mib, 1, 65'536);
  settings.Add(
      {.key = "coordinator.admin_key",
       .env = {"CY_LLM_ADMIN_KEY"},
       .help = "Key that the admin API (/workers) asks for; empty: open on 127.0.0.1, closed elsewhere",
       .secret = true,
       .check = TokenCheck()},
      &admin_key);
  process.DeclareInternalToken(settings,
                               "Token that workers ask for, and that registering workers must show");
  process.DeclareInsecure(settings,
                          "Allow an address that other machines can reach without an internal token",
                          {"CY_LLM_ALLOW_INSECURE_INTERNAL_TOKEN"});
  process.DeclareTls(settings, /*serves_grpc=*/true);
  process.DeclareServer(settings);
  settings.AddCheck([this] {
    if (listen.empty()) return InvalidArgument("coordinator.listen: at least one address is needed");
    return CheckPublicBind(listen, process.internal_token, process.insecure, "set CY_LLM_INTERNAL_TOKEN");
  });
}

}  // namespace cyllm
