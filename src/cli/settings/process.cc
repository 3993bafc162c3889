#include "cli/settings/process.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/settings/address.h"

namespace cyllm {

void ProcessSettings::DeclareLog(Settings& settings) {
  settings.Add({.key = "log.level",
                .flag = "--log-level",
                .env = {"CY_LLM_LOG_LEVEL"},
                .help = "What to log",
                .metavar = "LEVEL",
                .choices = {"trace", "debug", "info", "warn", "error", "off"}},
               &log_level);
  settings.Add({.key = "log.format",
                .flag = "--log-format",
                .env = {"CY_LLM_LOG_FORMAT"},
                .help = "How to log, on stderr",
                .metavar = "FORMAT",
                .choices = {"text", "json"}},
               &log_format);
}

void ProcessSettings::DeclareServer(Settings& settings) {
  DeclareLog(settings);
  settings.Add({.key = "drain_timeout",
                .flag = "--drain-timeout",
                .env = {"CY_LLM_DRAIN_TIMEOUT"},
                .help = "Seconds that running requests may take to end after SIGTERM",
                .metavar = "SECONDS"},
               &drain_timeout, 0, 86'400);
  settings.Add({.key = "io_threads",
                .flag = "--io-threads",
                .env = {"CY_LLM_IO_THREADS"},
                .help = "Threads for network input and output; 0: chosen from the number of cores",
                .metavar = "N"},
               &io_threads, 0, 256);
}

void ProcessSettings::DeclareInsecure(Settings& settings, std::string help, std::vector<EnvVar> variables) {
  variables.insert(variables.begin(), "CY_LLM_INSECURE");
  settings.Add(
      {.key = "insecure", .flag = "--insecure", .env = std::move(variables), .help = std::move(help)},
      &insecure);
}

void ProcessSettings::DeclareInternalToken(Settings& settings, std::string help) {
  settings.Add({.key = "internal_token",
                .env = {"CY_LLM_INTERNAL_TOKEN"},
                .help = std::move(help),
                .secret = true,
                .check = TokenCheck()},
               &internal_token);
}

void ProcessSettings::DeclareTls(Settings& settings, bool serves_grpc) {
  settings.Add(
      {.key = "tls.cert",
       .env = {"CY_LLM_GRPC_TLS_CERT"},
       .help = serves_grpc ? "PEM certificate of the gRPC listeners, also shown to servers; empty: no TLS"
                           : "PEM certificate that is shown to servers",
       .metavar = "FILE"},
      &tls_cert);
  settings.Add({.key = "tls.key",
                .env = {"CY_LLM_GRPC_TLS_KEY"},
                .help = "PEM key of that certificate",
                .metavar = "FILE"},
               &tls_key);
  settings.Add(
      {.key = "tls.ca",
       .env = {"CY_LLM_GRPC_TLS_CA"},
       .help = serves_grpc ? "PEM certificates that peers must be signed by: servers that are dialled, "
                             "and callers"
                           : "PEM certificates that servers must be signed by; empty: no TLS",
       .metavar = "FILE"},
      &tls_ca);
  settings.AddCheck([this] {
    if (tls_cert.empty() == tls_key.empty()) return Status::Ok();
    return InvalidArgument("tls.cert (CY_LLM_GRPC_TLS_CERT) and tls.key (CY_LLM_GRPC_TLS_KEY) go together");
  });
}

Status CheckPublicBind(const std::vector<std::string>& listen, const std::string& token, bool insecure,
                       const std::string& how) {
  const std::string open = FirstPublic(listen);
  if (open.empty() || !token.empty() || insecure) return Status::Ok();
  return InvalidArgument(
      fmt::format("refusing to listen on {}, which other machines can reach, without a token: {}, "
                  "listen on 127.0.0.1, or say --insecure to give everybody access",
                  open, how));
}

SettingCheck TokenCheck() {
  return {[](const std::string& token) {
            return std::ranges::all_of(token, [](unsigned char c) { return c > 0x20 && c < 0x7f; });
          },
          "visible ASCII without blanks"};
}

}  // namespace cyllm
