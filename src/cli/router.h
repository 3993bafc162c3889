// `cy-llm serve --upstream`: gateway and coordinator in front of model servers that speak HTTP.
#pragma once

#include "cli/settings/serve.h"
#include "cli/startup.h"

namespace cyllm {

// Serves until a signal; the exit status. SIGHUP reads the settings again, by `args`.
int RunRouter(const ServeSettings& values, const Args& args, ServerProcess& process);

}  // namespace cyllm
