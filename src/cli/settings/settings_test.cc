// Every subcommand's settings: what they accept, and that docs/configuration.md says the same.
// CY_UPDATE_DOCS=1 writes the generated tables into that file instead of comparing them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "cli/settings/contract_variables.h"
#include "cli/settings/coordinator.h"
#include "cli/settings/gateway.h"
#include "cli/settings/serve.h"
#include "cli/settings/tools.h"
#include "cli/settings/worker.h"

namespace cyllm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Variables = std::map<std::string, std::string>;
using Args = std::vector<std::string>;

template <class S>
struct Loaded {
  S values;
  Result<Settings::Action> result = Settings::Action::kRun;
  std::vector<std::string> warnings;
  std::string error() const { return result ? "" : result.error().message; }
};

template <class S>
std::unique_ptr<Loaded<S>> Load(const Args& args, const Variables& variables = {}) {
  auto loaded = std::make_unique<Loaded<S>>();
  Settings settings("cy-llm x", "");
  loaded->values.Declare(settings);
  loaded->result = settings.Load(args, [&](const std::string& name) -> std::optional<std::string> {
    const auto it = variables.find(name);
    return it == variables.end() ? std::nullopt : std::optional(it->second);
  });
  loaded->warnings = settings.warnings();
  return loaded;
}

template <class S>
std::unique_ptr<Settings> Declared(S& values, const std::string& name) {
  auto settings = std::make_unique<Settings>("cy-llm " + name, "");
  values.Declare(*settings);
  return settings;
}

// Calls f(name, settings) for each subcommand that has any.
void ForEachCommand(const std::function<void(const std::string&, const Settings&)>& f) {
  const auto visit = [&](auto values, const std::string& name) { f(name, *Declared(values, name)); };
  visit(ServeSettings(), "serve");
  visit(GatewaySettings(), "gateway");
  visit(CoordinatorSettings(), "coordinator");
  visit(WorkerSettings(), "worker");
  visit(PullSettings(), "pull");
  visit(ChatSettings(), "chat");
  visit(WorkersSettings(), "workers");
  visit(EnginesSettings(), "engines");
  visit(EngineCheckSettings(), "engine-check");
}

TEST(GatewaySettings, FindsTheCoordinatorTheWaysOfTheContract) {
  EXPECT_THAT(Load<GatewaySettings>({})->values.coordinators, ElementsAre("127.0.0.1:50051"));
  EXPECT_THAT(Load<GatewaySettings>({}, {{"COORDINATOR_UDS_PATH", "/run/c.sock"}})->values.coordinators,
              ElementsAre("unix:/run/c.sock"));
  EXPECT_THAT(
      Load<GatewaySettings>({}, {{"COORDINATOR_UDS_PATH", "unix:///run/c.sock"}})->values.coordinators,
      ElementsAre("unix:///run/c.sock"));
  const Variables both = {{"COORDINATOR_UDS_PATH", "/run/c.sock"}, {"COORDINATOR_GRPC_ADDR", "a:1,b:2"}};
  EXPECT_THAT(Load<GatewaySettings>({}, both)->values.coordinators, ElementsAre("a:1", "b:2"));
  EXPECT_THAT(Load<GatewaySettings>({"--coordinator", "c:3"}, both)->values.coordinators, ElementsAre("c:3"));
}

TEST(GatewaySettings, NeverOpenToOthersByAccident) {
  EXPECT_THAT(Load<GatewaySettings>({"--listen", "0.0.0.0:8000"})->error(), HasSubstr("GATEWAY_API_TOKEN"));
  EXPECT_EQ(Load<GatewaySettings>({"--listen", "0.0.0.0:8000"}, {{"GATEWAY_API_TOKEN", "t"}})->error(), "");
  EXPECT_THAT(Load<GatewaySettings>({"--listen", "0.0.0.0:8000"}, {{"GATEWAY_API_TOKEN", " "}})->error(),
              HasSubstr("without a token"));
  EXPECT_EQ(Load<GatewaySettings>({"--listen", "0.0.0.0:8000", "--insecure"})->error(), "");
  EXPECT_THAT(Load<GatewaySettings>({}, {{"GATEWAY_LITE_CONFIG", "/nowhere/config.json"}})->error(),
              HasSubstr("/nowhere/config.json"));
  EXPECT_THAT(Load<GatewaySettings>({}, {{"GATEWAY_API_TOKEN", "a b"}})->error(),
              HasSubstr("GATEWAY_API_TOKEN"));
}

TEST(CoordinatorSettings, PrefersTcpNamesAndListsOverSingles) {
  Variables v = {{"WORKER_UDS_PATH", "/d"}};
  EXPECT_THAT(Load<CoordinatorSettings>({}, v)->values.workers, ElementsAre("unix:/d"));
  v["WORKER_UDS_PATHS"] = "/b,unix:/c";
  EXPECT_THAT(Load<CoordinatorSettings>({}, v)->values.workers, ElementsAre("unix:/b", "unix:/c"));
  v["WORKER_GRPC_ADDR"] = "w:1";
  EXPECT_THAT(Load<CoordinatorSettings>({}, v)->values.workers, ElementsAre("w:1"));
  v["WORKER_GRPC_ADDRS"] = "w:1, w:2";
  EXPECT_THAT(Load<CoordinatorSettings>({}, v)->values.workers, ElementsAre("w:1", "w:2"));
  v["WORKER_GRPC_ADDRS"] = "";
  EXPECT_THAT(Load<CoordinatorSettings>({}, v)->values.workers, ElementsAre("w:1"));
}

TEST(WorkerSettings, ListensOnTcpUnlessOnlyASocketIsNamed) {
  EXPECT_THAT(Load<WorkerSettings>({})->values.Listen(), ElementsAre("127.0.0.1:50052"));
  EXPECT_THAT(Load<WorkerSettings>({"--port", "0"})->values.Listen(), ElementsAre("127.0.0.1:0"));
  EXPECT_THAT(Load<WorkerSettings>({"--uds-path", "/w"})->values.Listen(), ElementsAre("unix:/w"));
  EXPECT_THAT(Load<WorkerSettings>({"--uds-path", "/w", "--port", "7"})->values.Listen(),
              ElementsAre("127.0.0.1:7", "unix:/w"));
}

TEST(WorkerSettings, ProductionDemandsATokenAndTls) {
  const Variables production = {{"CY_LLM_ENV", "production"}};
  EXPECT_THAT(Load<WorkerSettings>({}, production)->error(), HasSubstr("CY_LLM_INTERNAL_TOKEN"));
  Variables v = production;
  v["CY_LLM_INTERNAL_TOKEN"] = "t";
  EXPECT_EQ(Load<WorkerSettings>({}, v)->error(), "");
  EXPECT_THAT(Load<WorkerSettings>({"--host", "0.0.0.0"}, v)->error(), HasSubstr("TLS"));
  v["CY_LLM_ALLOW_INSECURE_GRPC"] = "yes";
  EXPECT_EQ(Load<WorkerSettings>({"--host", "0.0.0.0"}, v)->error(), "");
  v = production;
  v["CY_LLM_ALLOW_INSECURE_INTERNAL_TOKEN"] = "1";
  EXPECT_EQ(Load<WorkerSettings>({}, v)->error(), "");
  EXPECT_THAT(Load<WorkerSettings>({}, {{"CY_LLM_ENV", "prodution"}})->error(), HasSubstr("CY_LLM_ENV"));
}

TEST(WorkerSettings, WarnsAboutWhatHasNoEffectAndRefusesWhatItCannotKeep) {
  const auto warned = Load<WorkerSettings>({"--serve", "--max-workers", "4"}, {{"VLLM_USE_4BIT", "true"}});
  EXPECT_EQ(warned->error(), "");
  EXPECT_EQ(warned->warnings.size(), 3u);
  EXPECT_THAT(Load<WorkerSettings>({}, {{"CY_LLM_GRPC_TLS_CERT", "/c.pem"}})->error(), HasSubstr("TLS"));
  EXPECT_THAT(Load<ServeSettings>({}, {{"CY_LLM_DEFAULT_ADAPTER", "/lora"}})->error(), HasSubstr("adapter"));
}

TEST(Contract, EachVariableIsWhatTheTableSays) {
  std::set<std::string> declared;
  ForEachCommand([&](const std::string&, const Settings& settings) {
    for (const auto& info : settings.All()) {
      for (const auto& variable : info.env) declared.insert(variable.name);
    }
  });
  // The variables that name configuration files are no settings' variables.
  for (const char* name : {"GATEWAY_LITE_CONFIG", "COORDINATOR_CONFIG"}) declared.insert(name);
  std::set<std::string_view> seen;
  for (const auto& variable : ContractVariables()) {
    EXPECT_TRUE(seen.insert(variable.name).second) << variable.name << " stands twice";
    EXPECT_FALSE(variable.note.empty()) << variable.name;
    const bool used = variable.verdict == Verdict::kHonoured || variable.verdict == Verdict::kMapped;
    EXPECT_EQ(declared.contains(std::string(variable.name)), used) << variable.name;
    if (variable.verdict == Verdict::kRefused) {
      EXPECT_THAT(Load<WorkerSettings>({}, {{std::string(variable.name), "x"}})->error(),
                  HasSubstr(std::string(variable.name)));
    }
  }
}

// The contract's section 5, name by name.
TEST(Contract, NoVariableIsForgotten) {
  std::istringstream names(
      "GATEWAY_API_TOKEN GATEWAY_LITE_CONFIG GATEWAY_REQUEST_TIMEOUT COORDINATOR_GRPC_ADDR "
      "COORDINATOR_UDS_PATH "
      "COORDINATOR_GRPC_BIND COORDINATOR_CONFIG WORKER_GRPC_ADDRS WORKER_GRPC_ADDR WORKER_UDS_PATHS "
      "WORKER_UDS_PATH "
      "CY_LLM_ENGINE CY_LLM_BACKEND CY_LLM_MODEL_REGISTRY CY_LLM_MODEL_REGISTRY_PATH CY_LLM_DEFAULT_MODEL "
      "CY_LLM_DEFAULT_ADAPTER CY_LLM_INTERNAL_TOKEN CY_LLM_ENV CY_LLM_ALLOW_INSECURE_INTERNAL_TOKEN "
      "CY_LLM_ALLOW_INSECURE_GRPC CY_LLM_GRPC_TLS_CERT CY_LLM_GRPC_TLS_KEY CY_LLM_GRPC_TLS_CA "
      "CY_LLM_HEALTH_PORT "
      "CY_LLM_OTEL_ENDPOINT CY_LLM_ALLOW_PLACEHOLDER_MODEL HF_ENDPOINT HUGGING_FACE_HUB_TOKEN HF_HOME "
      "HF_TOKEN "
      "CY_LLM_PORT CY_LLM_PROMPT_CACHE_ENABLED CY_LLM_PROMPT_CACHE_TTL VLLM_TENSOR_PARALLEL_SIZE VLLM_TP "
      "VLLM_GPU_MEMORY_UTILIZATION VLLM_GPU_MEM VLLM_MAX_MODEL_LEN VLLM_MAX_NUM_BATCHED_TOKENS VLLM_USE_4BIT "
      "SIDECAR_CONFIG SIDECAR_BIND_ADDR SIDECAR_WORKER_UDS SIDECAR_BILLING_ENDPOINT SIDECAR_LOG_LEVEL "
      "CY_LLM_CONDA_ENV CY_LLM_PYTHON_VERSION CY_LLM_WORKER_PORT CY_LLM_LITE_PORT "
      "CY_LLM_LITE_COORDINATOR_PORT "
      "CY_LLM_LITE_WORKER_PORT CY_LLM_MODEL CY_LLM_CHARACTER CY_LLM_BATCH_SIZE CY_LLM_GRAD_ACCUM "
      "CY_LLM_EPOCHS "
      "CY_LLM_VERBOSE CY_LLM_BIN LITE_LOG_DIR CY_LLM_MODEL_CACHE CY_LLM_CHECKPOINT_DIR "
      "CY_LLM_WORKER_METRICS_PORT "
      "REDIS_PORT COORDINATOR_GRPC_PORT WORKER_NVIDIA_METRICS_PORT WORKER_ASCEND_METRICS_PORT "
      "PROMETHEUS_PORT "
      "ALERTMANAGER_PORT ALERTMANAGER_WEBHOOK_URL GRAFANA_PORT GRAFANA_ADMIN_PASSWORD ASCEND_VISIBLE_DEVICES "
      "CY_LLM_COORDINATOR_HOST CY_LLM_COORDINATOR_PORT CY_LLM_WORKER_HOST CY_LLM_REGISTRY_PATH "
      "CY_LLM_API_KEY "
      "CY_LLM_SECURITY_ENABLED SPRING_DATA_REDIS_HOST SPRING_DATA_REDIS_PORT JAVA_OPTS "
      "CY_LLM_SELF_DEPLOY_ENABLED "
      "CY_LLM_WORKER_DIR CY_LLM_CONDA_PATH CY_LLM_AUTO_START EW_*");
  std::set<std::string_view> known;
  for (const auto& variable : ContractVariables()) known.insert(variable.name);
  for (std::string name; names >> name;) EXPECT_TRUE(known.contains(name)) << name;
}

TEST(Documents, ConfigurationTablesAreWhatTheProgramSays) {
  const std::string path = CY_SOURCE_DIR "/docs/configuration.md";
  std::ifstream in(path);
  ASSERT_TRUE(in) << path;
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const bool update = std::getenv("CY_UPDATE_DOCS") != nullptr;
  const auto check = [&](const std::string& name, const std::string& table) {
    const std::string begin = "<!-- generated: " + name + " -->\n\n";
    const size_t at = text.find(begin);
    ASSERT_NE(at, std::string::npos) << "no table for " << name;
    const size_t from = at + begin.size();
    const size_t to = text.find("\n<!-- end -->", from);
    ASSERT_NE(to, std::string::npos) << name;
    if (update) {
      text.replace(from, to - from, table);
    } else {
      EXPECT_EQ(text.substr(from, to - from), table) << name << ": run this test with CY_UPDATE_DOCS=1";
    }
  };
  ForEachCommand(
      [&](const std::string& name, const Settings& settings) { check(name, settings.Markdown()); });
  check("contract", ContractMarkdown());
  if (update) std::ofstream(path) << text;
}

}  // namespace
}  // namespace cyllm
