#include "cli/settings/contract_variables.h"

#include <fmt/format.h>

#include <array>

namespace cyllm {
namespace {

constexpr Verdict kHonoured = Verdict::kHonoured;
constexpr Verdict kMapped = Verdict::kMapped;
constexpr Verdict kElsewhere = Verdict::kElsewhere;
constexpr Verdict kIgnored = Verdict::kIgnored;
constexpr Verdict kRefused = Verdict::kRefused;

constexpr std::string_view kPromptCache = "there is no cache of answers; engines keep prefixes by themselves";
constexpr std::string_view kVllm =
    "option of a vLLM that we start, where the model's entry in the registry has none";
constexpr std::string_view kScripts = "belonged to the prototype's conda and training scripts";
constexpr std::string_view kKotlin = "belonged to the Kotlin services";
constexpr std::string_view kSidecar = "belonged to the Rust sidecar";
constexpr std::string_view kStack = "belonged to the prototype's Redis, Prometheus and Grafana stack";
constexpr std::string_view kComposePort = "host port in docker-compose.community.yml";

constexpr auto kVariables = std::to_array<ContractVariable>({
    {"GATEWAY_API_TOKEN", kHonoured, "bearer token of the API; wins over the file"},
    {"GATEWAY_LITE_CONFIG", kHonoured, "path of the gateway's configuration file; unreadable means no start"},
    {"GATEWAY_REQUEST_TIMEOUT", kMapped,
     "seconds as written, never raised to 1800; 0 or less: no limit; not a number: no start"},
    {"COORDINATOR_GRPC_ADDR", kHonoured,
     "gateway: one coordinator or several; worker: where to register; wins over COORDINATOR_UDS_PATH"},
    {"COORDINATOR_UDS_PATH", kHonoured,
     "gateway: the coordinator's socket; coordinator: the socket to listen on"},
    {"COORDINATOR_GRPC_BIND", kHonoured, "coordinator: where to listen; the default is 127.0.0.1:50051"},
    {"COORDINATOR_CONFIG", kHonoured, "path of the coordinator's configuration file"},
    {"WORKER_GRPC_ADDRS", kHonoured, "coordinator: its workers"},
    {"WORKER_GRPC_ADDR", kHonoured, "coordinator: its worker, where WORKER_GRPC_ADDRS is not set"},
    {"WORKER_UDS_PATHS", kHonoured, "coordinator: its workers' sockets, where no TCP name is set"},
    {"WORKER_UDS_PATH", kHonoured, "coordinator: its worker's socket, where nothing before it is set"},
    {"CY_LLM_ENGINE", kMapped,
     "llama_cpp, echo, or a server's name (vllm, sglang, trtllm...); the contract's names mean such servers"},
    {"CY_LLM_BACKEND", kMapped, "as CY_LLM_ENGINE, where that is not set"},
    {"CY_LLM_MODEL_REGISTRY", kMapped,
     "the registry as JSON text; wins over the file; empty counts as unset"},
    {"CY_LLM_MODEL_REGISTRY_PATH", kHonoured, "the registry's file"},
    {"CY_LLM_DEFAULT_MODEL", kMapped,
     "an id of the registry or, without one, a model source; default smollm2"},
    {"CY_LLM_DEFAULT_ADAPTER", kRefused,
     "say adapters (or adapter_path) in the model's entry of the registry"},
    {"CY_LLM_INTERNAL_TOKEN", kHonoured, "token between gateway, coordinator and workers"},
    {"CY_LLM_ENV", kMapped,
     "production needs an internal token, and on public addresses TLS or leave to go without"},
    {"CY_LLM_ALLOW_INSECURE_INTERNAL_TOKEN", kHonoured, "as --insecure"},
    {"CY_LLM_ALLOW_INSECURE_GRPC", kHonoured, "production without TLS on a public address"},
    {"CY_LLM_GRPC_TLS_CERT", kHonoured,
     "gateway, coordinator, worker: the certificate; no other place is searched"},
    {"CY_LLM_GRPC_TLS_KEY", kHonoured, "its key"},
    {"CY_LLM_GRPC_TLS_CA", kHonoured, "who must have signed the other side's certificate: mutual TLS"},
    {"CY_LLM_HEALTH_PORT", kHonoured,
     "worker: port of /healthz and /metrics, on --host instead of all interfaces"},
    {"CY_LLM_OTEL_ENDPOINT", kIgnored, "this release exports no traces; it passes trace context on"},
    {"CY_LLM_ALLOW_PLACEHOLDER_MODEL", kIgnored,
     "no placeholder path is known: a model that is missing is an error"},
    {"HF_ENDPOINT", kElsewhere, "read where a model is fetched: the server behind hf: sources"},
    {"HF_TOKEN", kElsewhere, "read where a model is fetched: sent to that server only"},
    {"HUGGING_FACE_HUB_TOKEN", kIgnored, "older name; set HF_TOKEN"},
    {"HF_HOME", kIgnored, "models lie in CY_LLM_MODEL_CACHE, else in cy-llm/models of the user's cache"},
    {"CY_LLM_PORT", kIgnored, "had two meanings; say --port or --listen"},
    {"CY_LLM_PROMPT_CACHE_ENABLED", kIgnored, kPromptCache},
    {"CY_LLM_PROMPT_CACHE_TTL", kIgnored, kPromptCache},
    {"VLLM_TENSOR_PARALLEL_SIZE", kElsewhere, kVllm},
    {"VLLM_GPU_MEMORY_UTILIZATION", kElsewhere, kVllm},
    {"VLLM_MAX_MODEL_LEN", kElsewhere, kVllm},
    {"VLLM_MAX_NUM_BATCHED_TOKENS", kElsewhere, kVllm},
    {"VLLM_USE_4BIT", kIgnored, "say use_4bit in the registry"},
    {"VLLM_TP", kIgnored, "set VLLM_TENSOR_PARALLEL_SIZE"},
    {"VLLM_GPU_MEM", kIgnored, "set VLLM_GPU_MEMORY_UTILIZATION"},
    {"SIDECAR_CONFIG", kIgnored, kSidecar},
    {"SIDECAR_BIND_ADDR", kIgnored, kSidecar},
    {"SIDECAR_WORKER_UDS", kIgnored, kSidecar},
    {"SIDECAR_BILLING_ENDPOINT", kIgnored, kSidecar},
    {"SIDECAR_LOG_LEVEL", kIgnored, kSidecar},
    {"CY_LLM_LITE_PORT", kElsewhere, kComposePort},
    {"CY_LLM_LITE_COORDINATOR_PORT", kElsewhere, kComposePort},
    {"CY_LLM_LITE_WORKER_PORT", kElsewhere, kComposePort},
    {"CY_LLM_WORKER_METRICS_PORT", kElsewhere, kComposePort},
    {"CY_LLM_MODEL_CACHE", kMapped, "folder of fetched models; in the compose file, the volume behind it"},
    {"CY_LLM_CONDA_ENV", kIgnored, kScripts},
    {"CY_LLM_PYTHON_VERSION", kIgnored, kScripts},
    {"CY_LLM_WORKER_PORT", kIgnored, "say --port"},
    {"CY_LLM_MODEL", kIgnored, "set CY_LLM_DEFAULT_MODEL"},
    {"CY_LLM_CHARACTER", kIgnored, kScripts},
    {"CY_LLM_BATCH_SIZE", kIgnored, kScripts},
    {"CY_LLM_GRAD_ACCUM", kIgnored, kScripts},
    {"CY_LLM_EPOCHS", kIgnored, kScripts},
    {"CY_LLM_VERBOSE", kIgnored, "set CY_LLM_LOG_LEVEL=debug"},
    {"CY_LLM_BIN", kElsewhere, "the process tests: the binary under test"},
    {"LITE_LOG_DIR", kIgnored, "logs go to stderr"},
    {"CY_LLM_CHECKPOINT_DIR", kIgnored, "adapters are named in the registry, each by its path"},
    {"REDIS_PORT", kIgnored, kStack},
    {"COORDINATOR_GRPC_PORT", kIgnored, "say --listen or COORDINATOR_GRPC_BIND"},
    {"WORKER_NVIDIA_METRICS_PORT", kIgnored, kStack},
    {"WORKER_ASCEND_METRICS_PORT", kIgnored, kStack},
    {"PROMETHEUS_PORT", kIgnored, kStack},
    {"ALERTMANAGER_PORT", kIgnored, kStack},
    {"ALERTMANAGER_WEBHOOK_URL", kIgnored, kStack},
    {"GRAFANA_PORT", kIgnored, kStack},
    {"GRAFANA_ADMIN_PASSWORD", kIgnored, kStack},
    {"ASCEND_VISIBLE_DEVICES", kIgnored, "for the server that we start, which inherits it"},
    {"CY_LLM_COORDINATOR_HOST", kIgnored, kKotlin},
    {"CY_LLM_COORDINATOR_PORT", kIgnored, kKotlin},
    {"CY_LLM_WORKER_HOST", kIgnored, kKotlin},
    {"CY_LLM_REGISTRY_PATH", kIgnored, kKotlin},
    {"CY_LLM_API_KEY", kMapped, "cy-llm chat: the token to send"},
    {"CY_LLM_SECURITY_ENABLED", kIgnored, kKotlin},
    {"SPRING_DATA_REDIS_HOST", kIgnored, kKotlin},
    {"SPRING_DATA_REDIS_PORT", kIgnored, kKotlin},
    {"JAVA_OPTS", kIgnored, kKotlin},
    {"CY_LLM_SELF_DEPLOY_ENABLED", kIgnored, kKotlin},
    {"CY_LLM_WORKER_DIR", kIgnored, kKotlin},
    {"CY_LLM_CONDA_PATH", kIgnored, kKotlin},
    {"CY_LLM_AUTO_START", kIgnored, kKotlin},
    {"EW_*", kIgnored, "the prefix before the rename; use the CY_LLM_ names"},
});

// Ignored names that somebody who moves over from the prototype's worker will have set.
constexpr auto kWarned = std::to_array<std::string_view>(
    {"CY_LLM_OTEL_ENDPOINT", "CY_LLM_ALLOW_PLACEHOLDER_MODEL", "HUGGING_FACE_HUB_TOKEN",
     "CY_LLM_PROMPT_CACHE_ENABLED", "CY_LLM_PROMPT_CACHE_TTL", "VLLM_USE_4BIT", "CY_LLM_MODEL"});

const ContractVariable& Find(std::string_view name) {
  for (const auto& variable : kVariables) {
    if (variable.name == name) return variable;
  }
  std::abort();
}

}  // namespace

std::span<const ContractVariable> ContractVariables() { return kVariables; }

std::string_view VerdictWord(Verdict verdict) {
  switch (verdict) {
    case kHonoured:
      return "honoured";
    case kMapped:
      return "mapped";
    case kElsewhere:
      return "read elsewhere";
    case kIgnored:
      return "ignored";
    case kRefused:
      return "refused";
  }
  return "";
}

std::string ContractMarkdown() {
  std::string out = "| Variable | Here | What it does, or why it does nothing |\n|---|---|---|\n";
  for (const auto& v : kVariables)
    out += fmt::format("| `{}` | {} | {} |\n", v.name, VerdictWord(v.verdict), v.note);
  return out;
}

void DeclareUnusedWorkerNames(Settings& settings) {
  for (const std::string_view name : kWarned)
    settings.IgnoreVariable(std::string(name), std::string(Find(name).note));
  for (const auto& v : kVariables) {
    if (v.verdict == kRefused) settings.RefuseVariable(std::string(v.name), std::string(v.note));
  }
  settings.IgnoreFlag("--serve", false, "the worker always serves");
  settings.IgnoreFlag("--max-workers", true, "engines batch the running requests by themselves");
  settings.IgnoreFlag("--queue-size", true, "engines queue by themselves");
}

}  // namespace cyllm
