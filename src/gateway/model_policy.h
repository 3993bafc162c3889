// What the gateway's options make of the model and the limits that a call asks for.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/mutex.h"
#include "gateway/dialects/common/dialect.h"
#include "gateway/gateway.h"

namespace cyllm {

// What a service calls its models and their adapters, also those that are away: a name means the same until
// Fleet::kRemembered after it was found to be gone. Thread-safe; asks the service only for names that were no
// model's when it last did.
class ModelNames {
 public:
  // `service` outlives this.
  explicit ModelNames(const InferenceService& service) : service_(service) {}

  struct Name {
    std::string model, adapter;
  };
  // The model `name`; else the adapter `name` of the first model that has one, or `model:adapter`. nullopt:
  // there are models, and none is called so.
  std::optional<Name> Find(const std::string& name, TimePoint now);

 private:
  struct Away {
    ModelInfo model;
    TimePoint since;
  };
  static std::optional<Name> Find(const Snapshot& snapshot, const std::string& name);
  void Remember(const Snapshot& before, const Snapshot& after, TimePoint now) CY_REQUIRES(mutex_);

  const InferenceService& service_;
  Mutex mutex_;
  std::shared_ptr<const Snapshot> known_ CY_GUARDED_BY(mutex_) = std::make_shared<const Snapshot>();
  std::map<std::string, Away> away_ CY_GUARDED_BY(mutex_);
};

// Aliases; adapters that are asked for as models; then, with fallback, `default` for what there is not.
void ResolveModel(const GatewayOptions& options, ModelNames& names, dialect::Call& call);

// Default and cap of max_tokens.
void LimitTokens(const GatewayOptions& options, dialect::Call& call);

// The snapshot with adapters and aliases as models of their own.
Snapshot WithAliases(const GatewayOptions& options, Snapshot snapshot);

}  // namespace cyllm
