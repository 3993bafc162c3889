#include "cli/settings/upstream.h"

#include "cli/settings/process.h"

namespace cyllm {

void UpstreamSettings::Declare(Settings& settings) {
  settings.Add({.key = "upstream.urls",
                .flag = "--upstream",
                .env = {"CY_LLM_UPSTREAMS"},
                .help = "Model servers to serve instead of models of this machine: http://host:port, "
                        "https://host, unix:/path; --engine tells what they are, else it is found out",
                .metavar = "URL[,URL]"},
               &urls);
  settings.Add({.key = "upstream.api_key",
                .env = {"CY_LLM_UPSTREAM_API_KEY"},
                .help = "Key that is shown to the model servers",
                .secret = true,
                .check = TokenCheck()},
               &api_key);
  settings.Add({.key = "upstream.ca",
                .env = {"CY_LLM_UPSTREAM_CA"},
                .help = "PEM file of the authorities that sign the model servers' certificates; empty: the "
                        "system's",
                .metavar = "FILE"},
               &ca);
  settings.Add({.key = "upstream.cert",
                .env = {"CY_LLM_UPSTREAM_CERT"},
                .help = "PEM file of our certificate, for servers that ask for one",
                .metavar = "FILE"},
               &cert);
  settings.Add({.key = "upstream.key",
                .env = {"CY_LLM_UPSTREAM_KEY"},
                .help = "PEM file of the key of that certificate",
                .metavar = "FILE"},
               &key);
  settings.Add({.key = "upstream.silence_limit",
                .help = "Seconds of silence in an answer after which its server counts as dead",
                .metavar = "SECONDS"},
               &silence_limit, 0.05, 86'400);
}

}  // namespace cyllm
