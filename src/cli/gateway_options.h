#pragma once

#include "cli/settings/gateway.h"
#include "gateway/gateway.h"

namespace cyllm {

GatewayOptions MakeGatewayOptions(const HttpSettings& http);

}  // namespace cyllm
