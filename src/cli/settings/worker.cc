#include "cli/settings/worker.h"

#include <fmt/format.h>

#include "cli/settings/address.h"
#include "cli/settings/contract_variables.h"

namespace cyllm {
namespace {

constexpr int64_t kDefaultPort = 50052;

std::string HostPort(const std::string& host, int64_t port) {
  const bool ipv6 = host.find(':') != std::string::npos;
  return ipv6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

}  // namespace

void ModelSettings::Declare(Settings& settings) {
  settings.Add({.key = "worker.registry",
                .flag = "--registry",
                .env = {"CY_LLM_MODEL_REGISTRY_PATH"},
                .help = "File with the models to serve (models.json)",
                .metavar = "FILE"},
               &registry_path);
  settings.Add({.key = "worker.registry_json",
                .env = {"CY_LLM_MODEL_REGISTRY"},
                .help = "The models to serve as JSON text; wins over the file"},
               &registry_json);
  settings.Add({.key = "worker.model",
                .flag = "--model",
                .env = {"CY_LLM_DEFAULT_MODEL"},
                .help = "The default model: an id of the registry or, without one, a model source (smollm2, "
                        "hf:owner/repo/file.gguf, a URL, a path)",
                .metavar = "MODEL"},
               &model);
  settings.Add({.key = "worker.engine",
                .flag = "--engine",
                .env = {"CY_LLM_ENGINE", "CY_LLM_BACKEND"},
                .help = "Engine of models that name none; empty: llama_cpp",
                .metavar = "ENGINE"},
               &engine);
  settings.Add({.key = "worker.threads",
                .flag = "--threads",
                .env = {"CY_LLM_THREADS"},
                .help = "Compute threads of an engine; 0: chosen from the number of cores",
                .metavar = "N"},
               &threads, 0, 1'024);
  settings.Add({.key = "worker.preload",
                .flag = "--preload",
                .env = {"CY_LLM_PRELOAD"},
                .help = "Load the default model at start, not on first use"},
               &preload);
  settings.Add(
      {.key = "worker.memory_budget_mib",
       .flag = "--memory-budget-mib",
       .env = {"CY_LLM_MEMORY_BUDGET_MIB"},
       .help = "Memory of all loaded models together: for the next one, the model that was not used for "
               "longest is unloaded; 0: no bound",
       .metavar = "N"},
      &memory_budget_mib, 0, 1 << 30);
  settings.Add({.key = "worker.min_residency_s",
                .flag = "--min-residency",
                .help = "A loaded model does not make room for another one before so many seconds",
                .metavar = "SECONDS"},
               &min_residency_s, 0, 86'400);
  settings.Add(
      {.key = "worker.reloads_per_minute",
       .help =
           "How often models that were unloaded to make room, or when idle, are loaded again; 0: no bound"},
      &reloads_per_minute, 0, 1'000);
  settings.Add(
      {.key = "worker.engine_stall_s",
       .flag = "--engine-stall",
       .env = {"CY_LLM_ENGINE_STALL"},
       .help = "An engine that owes an answer and does nothing for so many seconds hangs: its requests go "
               "elsewhere. One whose steps are short and known to be is found after 5; 0: never",
       .metavar = "SECONDS"},
      &engine_stall_s, 0, 86'400);
  settings.Add({.key = "worker.max_prompt_chars",
                .help = "Longest prompt of a StreamPredict call, in code points; 0: no limit"},
               &max_prompt_chars, 0, 1 << 30);
  settings.Add({.key = "worker.engine_dir",
                .flag = "--engine-dir",
                .env = {"CY_LLM_ENGINE_DIR"},
                .help = "Folder of the engine plugins; empty: engines, beside the program",
                .metavar = "DIR"},
               &engine_dir);
  settings.Add({.key = "worker.model_cache",
                .flag = "--model-cache",
                .env = {"CY_LLM_MODEL_CACHE"},
                .help = "Where fetched models are kept; empty: cy-llm/models in $XDG_CACHE_HOME or ~/.cache",
                .metavar = "DIR"},
               &model_cache);
}

void WorkerSettings::Declare(Settings& settings) {
  settings.ConfigFileFrom({"CY_LLM_WORKER_CONFIG"});
  settings.Add({.key = "worker.host",
                .flag = "--host",
                .env = {"CY_LLM_WORKER_BIND_HOST"},
                .help = "Address of the TCP listeners, gRPC and health",
                .metavar = "HOST",
                .check = {[](const std::string& host) { return ParseAddress(HostPort(host, 1)).has_value(); },
                          "an address or a name, without a port"}},
               &host);
  settings.Add({.key = "worker.port",
                .flag = "--port",
                .help = "TCP port for gRPC; 0: any free port; -1: 50052, or no TCP where uds_path is set",
                .metavar = "N"},
               &port, -1, 65'535);
  settings.Add(
      {.key = "worker.uds_path",
       .flag = "--uds-path",
       .help = "Unix socket for gRPC; empty: none",
       .metavar = "PATH",
       .check = {[](const std::string& path) { return path.empty() || ParseAddress("unix:" + path); },
                 "a path of at most 107 bytes"}},
      &uds_path);
  settings.Add({.key = "worker.health_port",
                .flag = "--health-port",
                .env = {"CY_LLM_HEALTH_PORT"},
                .help = "Port of /healthz and /metrics; 0: any free port; -1: none",
                .metavar = "N"},
               &health_port, -1, 65'535);
  settings.Add({.key = "worker.name",
                .flag = "--name",
                .env = {"CY_LLM_WORKER_NAME"},
                .help = "Name of this worker in the fleet; empty: host and process id",
                .metavar = "NAME"},
               &name);
  settings.Add({.key = "worker.coordinators",
                .flag = "--coordinator",
                .env = {"COORDINATOR_GRPC_ADDR"},
                .help = "Coordinators to register with; none or empty: wait to be called",
                .metavar = "ADDR[,ADDR]",
                .check = DialOrNoneCheck()},
               &coordinators);
  models.Declare(settings);
  settings.Add({.key = "environment",
                .flag = "--environment",
                .env = {"CY_LLM_ENV"},
                .help = "production demands an internal token, and TLS where other machines can connect",
                .metavar = "NAME",
                .choices = {"development", "dev", "test", "testing", "staging", "production", "prod"}},
               &environment);
  settings.Add({.key = "allow_insecure_grpc",
                .env = {"CY_LLM_ALLOW_INSECURE_GRPC"},
                .help = "Allow production without TLS on an address that other machines can reach"},
               &allow_insecure_grpc);
  process.DeclareInternalToken(settings, "Token that callers must show, and that is shown to coordinators");
  process.DeclareInsecure(
      settings, "Allow an address that other machines can reach, and production, without an internal token",
      {"CY_LLM_ALLOW_INSECURE_INTERNAL_TOKEN"});
  process.DeclareTls(settings, /*serves_grpc=*/true);
  process.DeclareServer(settings);
  DeclareUnusedWorkerNames(settings);
  settings.AddCheck([this] { return Check(); });
}

std::vector<std::string> WorkerSettings::Listen() const {
  std::vector<std::string> listen;
  if (port >= 0 || uds_path.empty()) listen.push_back(HostPort(host, port >= 0 ? port : kDefaultPort));
  if (!uds_path.empty()) listen.push_back("unix:" + uds_path);
  return CanonicalAddresses(listen);
}

bool WorkerSettings::production() const { return environment.starts_with("prod"); }

Status WorkerSettings::Check() const {
  if (production() && process.internal_token.empty() && !process.insecure) {
    return InvalidArgument(
        "CY_LLM_ENV=production needs an internal token: set CY_LLM_INTERNAL_TOKEN to the same secret on "
        "coordinator and workers (empty counts as unset), or CY_LLM_ALLOW_INSECURE_INTERNAL_TOKEN=true to go "
        "without");
  }
  if (const std::string open = FirstPublic(Listen());
      production() && !open.empty() && !allow_insecure_grpc && process.tls_cert.empty()) {
    return InvalidArgument(
        fmt::format("CY_LLM_ENV=production needs TLS on {}, which other machines can reach: set "
                    "CY_LLM_GRPC_TLS_CERT and CY_LLM_GRPC_TLS_KEY, listen on "
                    "127.0.0.1 or a Unix socket, or set CY_LLM_ALLOW_INSECURE_GRPC=true where the network "
                    "itself is trusted",
                    open));
  }
  return CheckPublicBind(Listen(), process.internal_token, process.insecure, "set CY_LLM_INTERNAL_TOKEN");
}

}  // namespace cyllm
