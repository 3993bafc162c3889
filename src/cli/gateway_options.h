#pragma once

#include "cli/settings/gateway.h"
#include "gateway/gateway.h"
#include "inference/resume.h"

namespace cyllm {

ResumeOptions MakeResumeOptions(const HttpSettings& http);
GatewayOptions MakeGatewayOptions(const HttpSettings& http);

}  // namespace cyllm
