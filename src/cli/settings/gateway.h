// Settings of the gateway, alone (`cy-llm gateway`) and in the all-in-one (`cy-llm serve`).
#pragma once

#include <string>
#include <vector>

#include "base/config.h"
#include "cli/settings/process.h"

namespace cyllm {

// The HTTP face. Times in seconds.
struct HttpSettings {
  std::string listen = "127.0.0.1:8000";
  std::string tls_certificate, tls_key;
  std::string api_token;
  bool models_need_token = true;
  std::vector<std::string> cors_origins;
  std::vector<std::string> model_aliases;  // "name=id"
  bool model_fallback = false;
  int64_t default_max_tokens = 0;
  int64_t max_max_tokens = 0;
  int64_t max_inputs = 2048;
  int64_t max_connections_per_address = 0;
  bool log_prompts = false;
  bool echo_root = false;
  double request_timeout = 1800;
  double resume_patience = 10;
  double header_timeout = 10;
  double body_timeout = 60;
  double idle_timeout = 180;
  double write_stall = 60;
  double header_commit = 10;
  double sse_ping = 10;
  int64_t max_body_bytes = 32 << 20;
  int64_t max_header_bytes = 32 << 10;
  int64_t max_connections = 20'000;
  int64_t max_choices = 16;

  void Declare(Settings& settings);
};

struct GatewaySettings {
  ProcessSettings process;
  HttpSettings http;
  std::vector<std::string> coordinators = {"127.0.0.1:50051"};
  std::string admin_key;

  void Declare(Settings& settings);
};

}  // namespace cyllm
