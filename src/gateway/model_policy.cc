#include "gateway/model_policy.h"

#include <algorithm>
#include <utility>

#include "inference/fleet.h"

namespace cyllm {

std::optional<ModelNames::Name> ModelNames::Find(const Snapshot& snapshot, const std::string& name) {
  if (snapshot.Find(name)) return Name{name, {}};
  for (const ModelInfo& model : snapshot.models)
    if (std::ranges::binary_search(model.adapters, name))
      return Name{model.alias_of.empty() ? model.id : model.alias_of, name};
  for (size_t colon = name.find(':'); colon != std::string::npos; colon = name.find(':', colon + 1)) {
    const ModelInfo* model = snapshot.Find(name.substr(0, colon));
    if (model && std::ranges::binary_search(model->adapters, name.substr(colon + 1)))
      return Name{model->id, name.substr(colon + 1)};
  }
  return std::nullopt;
}

std::optional<ModelNames::Name> ModelNames::Find(const std::string& name, TimePoint now) {
  std::shared_ptr<const Snapshot> known;
  {
    MutexLock lock(mutex_);
    known = known_;
  }
  if (known->Find(name)) return Name{name, {}};
  known = std::make_shared<const Snapshot>(service_.Describe());
  const std::optional<Name> here = Find(*known, name);
  Snapshot away;
  {
    MutexLock lock(mutex_);
    Remember(*known_, *known, now);
    known_ = known;
    if (here) return here;
    for (const auto& [id, gone] : away_) away.models.push_back(gone.model);
  }
  if (const std::optional<Name> gone = Find(away, name)) return gone;
  if (known->models.empty()) return Name{name, {}};
  return std::nullopt;
}

void ModelNames::Remember(const Snapshot& before, const Snapshot& after, TimePoint now) {
  std::erase_if(away_, [&](const auto& gone) {
    return after.Find(gone.first) || now - gone.second.since >= Fleet::kRemembered;
  });
  for (const ModelInfo& model : before.models)
    if (!after.Find(model.id) && away_.size() < Fleet::kMaxRemembered)
      away_.try_emplace(model.id, Away{model, now});
}

void ResolveModel(const GatewayOptions& options, ModelNames& names, dialect::Call& call) {
  for (Request& request : call.requests) {
    RequestFacts& facts = request.facts;
    if (const auto alias = options.model_aliases.find(facts.model); alias != options.model_aliases.end())
      facts.model = alias->second;
    const std::optional<ModelNames::Name> found = names.Find(facts.model, Clock::now());
    if (!found && options.model_fallback) facts.model = "default";
    if (!found || found->adapter.empty() || !facts.adapter.empty()) continue;
    facts.model = found->model;
    facts.adapter = found->adapter;
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
  const auto add = [&](const std::string& name, ModelInfo model) {
    if (snapshot.Find(name)) return;
    model.alias_of = std::exchange(model.id, name);
    const auto at = std::ranges::lower_bound(snapshot.models, name, {}, &ModelInfo::id);
    snapshot.models.insert(at, std::move(model));
  };
  for (const ModelInfo& model : std::vector(snapshot.models)) {
    if (!model.alias_of.empty()) continue;
    for (const std::string& adapter : model.adapters) {
      ModelInfo info = model;
      info.adapter = adapter;
      add(adapter, std::move(info));
    }
  }
  for (const auto& [name, id] : options.model_aliases)
    if (const ModelInfo* model = snapshot.Find(id)) add(name, *model);
  return snapshot;
}

}  // namespace cyllm
