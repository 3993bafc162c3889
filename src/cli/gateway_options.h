#pragma once

#include "base/log.h"
#include "cli/command.h"
#include "cli/settings/gateway.h"
#include "gateway/gateway.h"
#include "inference/resume.h"

namespace cyllm {

ResumeOptions MakeResumeOptions(const HttpSettings& http);
GatewayOptions MakeGatewayOptions(const HttpSettings& http);

// Reads flags, environment and file again, as `T` declares them, and has `gateway` take over what they say.
// What is wrong is logged and changes nothing.
template <class T>
void ReloadGateway(Gateway& gateway, const std::string& command, const Args& args) {
  T values;
  Settings settings(command, "");
  values.Declare(settings);
  const auto loaded = settings.Load(args, ProcessEnv);
  const Status status = loaded ? gateway.Reload(MakeGatewayOptions(values.http)) : loaded.error();
  if (status.ok()) {
    Log()->info("SIGHUP: the configuration was read again");
  } else {
    Log()->error("SIGHUP: nothing changed: {}", status.message);
  }
}

}  // namespace cyllm
