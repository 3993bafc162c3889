#include "cli/settings/serve.h"

#include "cli/settings/contract_variables.h"

namespace cyllm {

void ServeSettings::Declare(Settings& settings) {
  settings.ConfigFileFrom({"CY_LLM_SERVE_CONFIG"});
  http.Declare(settings);
  models.Declare(settings);
  upstream.Declare(settings);
  process.DeclareInsecure(settings, "Allow an address that other machines can reach without an API token");
  process.DeclareServer(settings);
  DeclareUnusedWorkerNames(settings);
  for (const char* name : {"COORDINATOR_GRPC_ADDR", "COORDINATOR_UDS_PATH", "WORKER_GRPC_ADDRS",
                           "WORKER_GRPC_ADDR", "WORKER_UDS_PATHS", "WORKER_UDS_PATH"}) {
    settings.IgnoreVariable(name, "serve runs gateway, coordinator and worker in one process");
  }
  settings.AddCheck([this] {
    if (!upstream.urls.empty() && (!models.registry_path.empty() || !models.registry_json.empty()))
      return InvalidArgument(
          "--upstream and a model registry exclude each other: name the servers in the registry (engine, "
          "url)");
    return CheckPublicBind({http.listen}, http.api_token, process.insecure,
                           "set GATEWAY_API_TOKEN (or gateway.api_token in the file)");
  });
}

}  // namespace cyllm
