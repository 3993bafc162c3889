#include "gateway/model_policy.h"

#include <algorithm>

namespace cyllm {

void ResolveModel(const GatewayOptions& options, const InferenceService& service, dialect::Call& call) {
  if (options.model_aliases.empty() && !options.model_fallback) return;
  for (Request& request : call.requests) {
    std::string& model = request.facts.model;
    if (const auto alias = options.model_aliases.find(model); alias != options.model_aliases.end())
      model = alias->second;
    if (!options.model_fallback) continue;
    const Snapshot snapshot = service.Describe();
    if (!snapshot.models.empty() && !snapshot.Find(model)) model = "default";
  }
}

void LimitTokens(const GatewayOptions& options, dialect::Call& call) {
  for (Request& request : call.requests) {
    const Kind kind = request.facts.kind;
    if (kind != Kind::kChat && kind != Kind::kText && kind != Kind::kTokens) continue;
    std::optional<uint32_t>& limit = request.facts.max_tokens;
    if (!limit && options.default_max_tokens > 0) limit = options.default_max_tokens;
    if (options.max_max_tokens > 0)
      limit = std::min(limit.value_or(options.max_max_tokens), options.max_max_tokens);
  }
}

Snapshot WithAliases(const GatewayOptions& options, Snapshot snapshot) {
  for (const auto& [name, id] : options.model_aliases) {
    const ModelInfo* model = snapshot.Find(id);
    if (!model || snapshot.Find(name)) continue;
    ModelInfo alias = *model;
    alias.id = name;
    alias.alias_of = id;
    const auto at = std::lower_bound(snapshot.models.begin(), snapshot.models.end(), name,
                                     [](const ModelInfo& m, const std::string& n) { return m.id < n; });
    snapshot.models.insert(at, std::move(alias));
  }
  return snapshot;
}

}  // namespace cyllm
