#include "cli/settings/gateway.h"

#include "cli/settings/address.h"

namespace cyllm {
namespace {

constexpr double kWeek = 7 * 86'400;

}  // namespace

void HttpSettings::Declare(Settings& settings) {
  settings.Add({.key = "gateway.listen",
                .flag = "--listen",
                .env = {"CY_LLM_GATEWAY_LISTEN"},
                .help = "Where to serve HTTP; port 0: any free port",
                .metavar = "HOST:PORT",
                .check = ListenTcpCheck()},
               &listen);
  settings.Add({.key = "gateway.tls_certificate",
                .flag = "--tls-certificate",
                .help = "PEM file with the certificate (and its chain); empty: plain HTTP",
                .metavar = "FILE"},
               &tls_certificate);
  settings.Add({.key = "gateway.tls_key",
                .flag = "--tls-key",
                .help = "PEM file with the certificate's key",
                .metavar = "FILE"},
               &tls_key);
  settings.AddCheck([this] {
    return tls_certificate.empty() == tls_key.empty()
               ? Status::Ok()
               : InvalidArgument("gateway.tls_certificate and gateway.tls_key must be given together");
  });
  settings.Add({.key = "gateway.api_token",
                .env = {"GATEWAY_API_TOKEN"},
                .help = "Bearer token that clients must send; empty: open to everybody who can connect",
                .secret = true,
                .check = TokenCheck()},
               &api_token);
  settings.Add({.key = "gateway.models_need_token",
                .flag = "--models-need-token",
                .help = "Whether the list of models asks for the token too"},
               &models_need_token);
  settings.Add(
      {.key = "gateway.cors_origins",
       .flag = "--cors-origins",
       .help = "Origins of web pages that may ask; *: any. Empty: with a token any, without one those of "
               "this machine",
       .metavar = "ORIGIN[,ORIGIN]"},
      &cors_origins);
  settings.Add({.key = "gateway.model_aliases",
                .flag = "--model-aliases",
                .help = "Further names of models",
                .metavar = "NAME=ID[,NAME=ID]",
                .check = {[](const std::string& text) {
                            const size_t at = text.find('=');
                            return at != std::string::npos && at > 0 && at + 1 < text.size();
                          },
                          "NAME=ID"}},
               &model_aliases);
  settings.Add({.key = "gateway.model_fallback",
                .flag = "--model-fallback",
                .help = "Answer requests for unknown models with the default one instead of 404"},
               &model_fallback);
  settings.Add({.key = "gateway.default_max_tokens",
                .help = "max_tokens of requests that give none; 0: the rest of the context"},
               &default_max_tokens, 0, 1 << 30);
  settings.Add({.key = "gateway.max_max_tokens", .help = "Highest max_tokens, more is cut; 0: no limit"},
               &max_max_tokens, 0, 1 << 30);
  settings.Add({.key = "gateway.request_timeout",
                .flag = "--request-timeout",
                .env = {"GATEWAY_REQUEST_TIMEOUT"},
                .help = "Seconds that a request may take in all; 0 or less: no limit",
                .metavar = "SECONDS"},
               &request_timeout, -kWeek, kWeek);
  settings.Add(
      {.key = "gateway.resume_patience",
       .env = {"CY_LLM_RESUME_PATIENCE"},
       .help = "Seconds that a broken answer waits for a worker that can go on with it; 0: the client "
               "is told at once",
       .metavar = "SECONDS"},
      &resume_patience, 0, 3'600);
  settings.Add(
      {.key = "gateway.header_timeout", .help = "Seconds for a request's header, from the first byte"},
      &header_timeout, 0.1, 3'600);
  settings.Add({.key = "gateway.body_timeout", .help = "Seconds for a request's whole body"}, &body_timeout,
               0.1, 3'600);
  settings.Add({.key = "gateway.idle_timeout", .help = "Seconds that an idle connection is kept"},
               &idle_timeout, 0.1, 86'400);
  settings.Add(
      {.key = "gateway.write_stall", .help = "Seconds after which a client that reads nothing is cut off"},
      &write_stall, 0.1, 86'400);
  settings.Add(
      {.key = "gateway.header_commit",
       .help = "Seconds without a decision after which a streamed request is answered 200 with pings"},
      &header_commit, 0.01, 3'600);
  settings.Add({.key = "gateway.sse_ping", .help = "Seconds between pings on a silent event stream; 0: none"},
               &sse_ping, 0, 3'600);
  settings.Add({.key = "gateway.max_body_bytes", .help = "Longest request body"}, &max_body_bytes, 1'024,
               int64_t{1} << 30);
  settings.Add({.key = "gateway.max_header_bytes", .help = "Longest request header"}, &max_header_bytes,
               1'024, 1 << 20);
  settings.Add({.key = "gateway.max_connections",
                .flag = "--max-connections",
                .help = "Most connections at once",
                .metavar = "N"},
               &max_connections, 1, 1'000'000);
  settings.Add({.key = "gateway.max_connections_per_address",
                .help = "Most connections of one client address at once; 0: no limit"},
               &max_connections_per_address, 0, 1'000'000);
  settings.Add({.key = "gateway.max_inputs",
                .help = "Most texts that a request may embed or rank, and most prompts times n"},
               &max_inputs, 1, 1 << 20);
  settings.Add(
      {.key = "gateway.log_prompts", .help = "Write the bodies of requests to the log, prompts and all"},
      &log_prompts);
  settings.Add({.key = "gateway.echo_root", .help = "Answer POST / with its body, for tests of HTTP itself"},
               &echo_root);
  settings.Add({.key = "gateway.max_choices", .help = "Highest n that a request may ask for"}, &max_choices,
               1, 128);
}

void GatewaySettings::Declare(Settings& settings) {
  settings.ConfigFileFrom({"GATEWAY_LITE_CONFIG"});
  settings.JsonKeys({{"api_token", "gateway.api_token"},
                     {"coordinator_grpc_addr", "gateway.coordinators"},
                     {"request_timeout_sec", "gateway.request_timeout"}});
  http.Declare(settings);
  settings.Add({.key = "gateway.coordinators",
                .flag = "--coordinator",
                .env = {"COORDINATOR_GRPC_ADDR", {"COORDINATOR_UDS_PATH", "unix:"}},
                .help = "Coordinators to ask, in order of preference",
                .metavar = "ADDR[,ADDR]",
                .check = DialCheck()},
               &coordinators);
  settings.Add({.key = "gateway.admin_key",
                .env = {"CY_LLM_ADMIN_KEY"},
                .help = "Key of the admin API (/workers of the coordinators); empty: the gateway has none",
                .secret = true,
                .check = TokenCheck()},
               &admin_key);
  process.DeclareInternalToken(settings, "Token that the coordinators ask for");
  process.DeclareInsecure(settings, "Allow an address that other machines can reach without an API token");
  process.DeclareTls(settings, /*serves_grpc=*/false);
  process.DeclareServer(settings);
  settings.AddCheck([this] {
    if (coordinators.empty()) return InvalidArgument("gateway.coordinators: at least one address is needed");
    return CheckPublicBind({http.listen}, http.api_token, process.insecure,
                           "set GATEWAY_API_TOKEN (or api_token in the file)");
  });
}

}  // namespace cyllm
