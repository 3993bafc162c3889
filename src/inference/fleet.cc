#include "inference/fleet.h"

#include <algorithm>
#include <map>

#include "base/log.h"

namespace cyllm {

// One request on its way through the fleet.
class RetryStream final : public EventSource {
 public:
  RetryStream(std::shared_ptr<Fleet> fleet, Request request, Context context)
      : fleet_(std::move(fleet)), request_(std::move(request)), context_(std::move(context)) {}

  Task<NextResult> Next(TimePoint wake_at) override {
    while (true) {
      if (!inner_ && !ended_) Start();
      if (!inner_) {
        NextResult result;
        result.end = end_;
        co_return result;
      }
      NextResult next = co_await inner_->Next(wake_at);
      switch (next.what) {
        case NextResult::What::kTimeout:
          co_return next;
        case NextResult::What::kEvents:
          Note(next.events);
          co_return next;
        case NextResult::What::kEnd:
          inner_.reset();
          end_ = std::move(next.end);
          // All that was asked for has come: how the connection ended is nobody's concern.
          if (finished_ >= request_.facts.choices) end_ = Status::Ok();
          ended_ = end_.ok() || delivered_ || !end_.retryable || attempts_ >= fleet_->max_attempts_ ||
                   Clock::now() >= context_.deadline;
          if (!ended_) {
            Log()->info("{} failed on {} before its first token, trying another: {}", context_.request_id,
                        tried_.back(), end_.ToString());
          }
      }
    }
  }

  void Wake() override {
    if (inner_) inner_->Wake();
  }

 private:
  void Start() {
    const Fleet::Backends backends = fleet_->backends();
    std::vector<Snapshot> described;
    described.reserve(backends->size());  // views point into it
    std::vector<BackendView> views;
    views.reserve(backends->size());
    for (const Fleet::Backend& backend : *backends) {
      const bool tried = std::find(tried_.begin(), tried_.end(), backend.name) != tried_.end();
      if (backend.live) described.push_back(backend.service->Describe());
      views.push_back({backend.name, backend.live ? described.back() : *backend.snapshot, tried});
    }
    const Decision decision =
        fleet_->policy_(request_.facts, views, fleet_->turn_.fetch_add(1, std::memory_order_relaxed));
    if (decision.index < 0) {
      ended_ = true;
      if (end_.ok()) end_ = decision.refusal;  // else: what the last one that was tried said
      return;
    }
    const Fleet::Backend& backend = (*backends)[static_cast<size_t>(decision.index)];
    tried_.push_back(backend.name);
    ++attempts_;
    Log()->debug("{} goes to {}: {}", context_.request_id, backend.name, decision.reason);
    inner_ = backend.service->Infer(request_, context_);
  }

  void Note(const Batch& events) {
    for (const Event& event : events) {
      const bool finished = std::holds_alternative<Finished>(event);
      finished_ += finished;
      delivered_ |= finished || IsDelta(event);
    }
  }

  const std::shared_ptr<Fleet> fleet_;
  const Request request_;
  const Context context_;
  EventStream inner_;
  std::vector<std::string> tried_;
  uint32_t attempts_ = 0;
  uint32_t finished_ = 0;  // choices
  bool delivered_ = false, ended_ = false;
  Status end_;
};

Fleet::Fleet(Policy policy, uint32_t max_attempts)
    : policy_(std::move(policy)),
      max_attempts_(max_attempts),
      backends_(std::make_shared<std::vector<Backend>>()) {}

std::shared_ptr<Fleet> Fleet::Make(Policy policy, uint32_t max_attempts) {
  return std::shared_ptr<Fleet>(new Fleet(std::move(policy), max_attempts));
}

void Fleet::Change(const std::function<void(std::vector<Backend>&)>& f) {
  MutexLock lock(mutex_);
  auto copy = std::make_shared<std::vector<Backend>>(*backends_);
  f(*copy);
  backends_ = std::move(copy);
}

void Fleet::Add(std::string name, std::shared_ptr<InferenceService> service, bool live) {
  auto snapshot = std::make_shared<const Snapshot>(service->Describe());
  Change([&](std::vector<Backend>& backends) {
    backends.push_back({std::move(name), std::move(service), std::move(snapshot), live});
  });
}

void Fleet::Remove(const InferenceService* service) {
  Change([&](std::vector<Backend>& backends) {
    std::erase_if(backends, [&](const Backend& backend) { return backend.service.get() == service; });
  });
}

void Fleet::Refresh(const InferenceService* service) {
  auto snapshot = std::make_shared<const Snapshot>(service->Describe());
  Change([&](std::vector<Backend>& backends) {
    for (Backend& backend : backends) {
      if (backend.service.get() == service) backend.snapshot = snapshot;
    }
  });
}

Fleet::Backends Fleet::backends() const {
  MutexLock lock(mutex_);
  return backends_;
}

EventStream Fleet::Infer(Request request, Context context) {
  if (request.facts.model.empty()) request.facts.model = "default";
  return std::make_unique<RetryStream>(shared_from_this(), std::move(request), std::move(context));
}

Snapshot Fleet::Describe() const {
  // Which of two states of a model says more about the fleet: ready, loading, available, failed.
  const auto rank = [](ModelState state) {
    switch (state) {
      case ModelState::kReady:
        return 3;
      case ModelState::kLoading:
        return 2;
      case ModelState::kAvailable:
        return 1;
      case ModelState::kFailed:
        return 0;
    }
    return 0;
  };
  Snapshot fleet;
  std::map<std::string, ModelInfo> models;
  std::map<std::string, int> reasons;  // without names: they are addresses, and clients read this
  const Backends backends = this->backends();
  for (const Backend& backend : *backends) {
    const Snapshot snapshot = backend.live ? backend.service->Describe() : *backend.snapshot;
    if (!snapshot.ready) {
      for (const std::string& reason : snapshot.not_ready_reasons) ++reasons[reason];
      continue;
    }
    fleet.ready = true;
    fleet.load.running += snapshot.load.running;
    fleet.load.waiting += snapshot.load.waiting;
    fleet.load.max_running += snapshot.load.max_running;
    for (const ModelInfo& model : snapshot.models) {
      const auto [it, is_new] = models.try_emplace(model.id, model);
      if (!is_new && rank(model.state) > rank(it->second.state)) it->second = model;
    }
  }
  for (auto& [id, model] : models) fleet.models.push_back(std::move(model));
  if (fleet.ready) return fleet;
  for (const auto& [reason, count] : reasons)
    fleet.not_ready_reasons.push_back(count == 1 ? reason
                                                 : reason + " (" + std::to_string(count) + " times)");
  if (reasons.empty()) fleet.not_ready_reasons = {"no worker is connected"};
  return fleet;
}

bool Suits(const RequestFacts& facts, const BackendView& view) {
  if (!view.snapshot.ready || view.tried) return false;
  const ResumeState& resume = facts.resume;
  if (view.snapshot.models.empty())
    return resume.digest.empty();  // an old peer that does not list its models
  const ModelInfo* model = view.snapshot.Find(facts.model);
  if (!model || model->state == ModelState::kFailed) return false;
  if (!resume.choices.empty() && !(model->capabilities & kCapResume)) return false;
  return resume.digest.empty() || model->digest.empty() || model->digest == resume.digest;
}

bool Avoided(const RequestFacts& facts, const BackendView& view) {
  return std::ranges::any_of(facts.avoid_workers, [&](const std::string& name) {
    return name == view.name || name == view.snapshot.name;
  });
}

Status Refusal(const RequestFacts& facts, std::span<const BackendView> views) {
  bool anybody = false, model_known = false;
  for (const BackendView& view : views) {
    anybody |= view.snapshot.ready;
    model_known |= view.snapshot.ready && (view.snapshot.models.empty() || view.snapshot.Find(facts.model));
  }
  if (!anybody) return Unavailable("no worker is available", "no_worker");
  if (model_known) return Unavailable("no worker can take the request now", "no_worker");
  return MakeStatus(Code::kNotFound, "Model '" + facts.model + "' not found in registry", "model_not_found",
                    "model");
}

Decision PickFirst(const RequestFacts& facts, std::span<const BackendView> views, uint64_t) {
  for (const bool avoided : {false, true}) {
    for (size_t i = 0; i < views.size(); ++i) {
      if (Suits(facts, views[i]) && Avoided(facts, views[i]) == avoided)
        return {static_cast<int>(i), "first that is ready", {}};
    }
  }
  return {-1, "nobody", Refusal(facts, views)};
}

}  // namespace cyllm
