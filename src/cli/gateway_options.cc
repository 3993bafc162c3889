#include "cli/gateway_options.h"

#include "cli/settings/address.h"

namespace cyllm {
namespace {

Millis Seconds(double seconds) {
  return seconds <= 0 ? Millis(0) : std::chrono::ceil<Millis>(std::chrono::duration<double>(seconds));
}

}  // namespace

ResumeOptions MakeResumeOptions(const HttpSettings& http) {
  ResumeOptions options;
  options.patience = Seconds(http.resume_patience);
  return options;
}

GatewayOptions MakeGatewayOptions(const HttpSettings& http) {
  GatewayOptions options;
  options.listen = ParseAddress(http.listen)->ToString();
  if (!http.api_token.empty()) options.api_tokens = {http.api_token};
  options.tls_certificate = http.tls_certificate;
  options.tls_key = http.tls_key;
  options.cors_origins = http.cors_origins;
  for (const std::string& alias : http.model_aliases) {
    const size_t at = alias.find('=');
    options.model_aliases[alias.substr(0, at)] = alias.substr(at + 1);
  }
  options.model_fallback = http.model_fallback;
  options.default_max_tokens = static_cast<uint32_t>(http.default_max_tokens);
  options.max_max_tokens = static_cast<uint32_t>(http.max_max_tokens);
  options.max_inputs = static_cast<uint32_t>(http.max_inputs);
  options.max_connections_per_address = static_cast<size_t>(http.max_connections_per_address);
  options.log_prompts = http.log_prompts;
  options.echo_root = http.echo_root;
  options.models_need_token = http.models_need_token;
  options.max_body_bytes = static_cast<size_t>(http.max_body_bytes);
  options.max_header_bytes = static_cast<size_t>(http.max_header_bytes);
  options.max_connections = static_cast<size_t>(http.max_connections);
  options.max_choices = static_cast<uint32_t>(http.max_choices);
  options.header_timeout = Seconds(http.header_timeout);
  options.body_timeout = Seconds(http.body_timeout);
  options.idle_timeout = Seconds(http.idle_timeout);
  options.write_stall = Seconds(http.write_stall);
  options.request_timeout = Seconds(http.request_timeout);
  options.header_commit = Seconds(http.header_commit);
  options.sse_ping = Seconds(http.sse_ping);
  return options;
}

}  // namespace cyllm
