// Settings of the subcommands that are no servers: pull, chat, engines, engine-check.
#pragma once

#include <string>
#include <vector>

#include "base/config.h"

namespace cyllm {

struct PullSettings {
  std::string source;
  std::string model_cache;

  void Declare(Settings& settings);
};

struct ChatSettings {
  std::string url = "http://127.0.0.1:8000";
  std::string model;
  std::string system;
  std::string once;
  std::string api_token;
  double temperature = -1;
  int64_t max_tokens = 0;

  void Declare(Settings& settings);
};

struct WorkersSettings {
  std::string verb = "list";
  std::string worker;
  std::string url = "http://127.0.0.1:8081";
  std::string admin_key;
  double deadline = 30;
  bool wait = false;
  bool json = false;

  void Declare(Settings& settings);
};

struct EnginesSettings {
  std::string engine_dir;
  bool json = false;

  void Declare(Settings& settings);
};

struct EngineCheckSettings {
  std::string plugin;
  std::string config;
  std::string model;
  bool quick = false;
  double limit = 120;
  std::vector<std::string> only;

  void Declare(Settings& settings);
};

}  // namespace cyllm
