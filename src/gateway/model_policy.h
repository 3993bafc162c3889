// What the gateway's options make of the model and the limits that a call asks for.
#pragma once

#include "gateway/dialects/common/dialect.h"
#include "gateway/gateway.h"

namespace cyllm {

// Aliases; then, with fallback, `default` for what `service` does not have.
void ResolveModel(const GatewayOptions& options, const InferenceService& service, dialect::Call& call);

// Default and cap of max_tokens.
void LimitTokens(const GatewayOptions& options, dialect::Call& call);

// The snapshot with the aliases as models of their own.
Snapshot WithAliases(const GatewayOptions& options, Snapshot snapshot);

}  // namespace cyllm
