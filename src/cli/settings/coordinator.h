// Settings of `cy-llm coordinator`.
#pragma once

#include <string>
#include <vector>

#include "base/config.h"
#include "cli/settings/process.h"

namespace cyllm {

struct CoordinatorSettings {
  ProcessSettings process;
  std::vector<std::string> listen = {"127.0.0.1:50051"};
  std::string http_listen = "127.0.0.1:8081";  // "off": none
  std::vector<std::string> workers = {"127.0.0.1:50052"};
  std::string name;  // empty: made from the host
  int64_t max_attempts = 3;
  std::string policy = "prefix_aware";
  int64_t max_waiting = 1'024;
  int64_t prefix_index_mib = 48;
  std::string admin_key;

  void Declare(Settings& settings);
};

}  // namespace cyllm
