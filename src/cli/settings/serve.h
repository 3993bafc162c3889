// Settings of `cy-llm serve`: gateway, coordinator and worker in one process.
#pragma once

#include "cli/settings/gateway.h"
#include "cli/settings/upstream.h"
#include "cli/settings/worker.h"

namespace cyllm {

struct ServeSettings {
  ProcessSettings process;
  HttpSettings http;
  ModelSettings models;
  UpstreamSettings upstream;

  void Declare(Settings& settings);
};

}  // namespace cyllm
