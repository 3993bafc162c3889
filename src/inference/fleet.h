// Several services as one: each request is given to one of them, chosen by a policy; what fails before its
// first delta is tried on another. The coordinator over its workers, the gateway over its coordinators.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "inference/service.h"

namespace cyllm {

// What a policy sees of one backend.
struct BackendView {
  const std::string& name;
  const Snapshot& snapshot;
  bool tried = false;  // this request has already failed there
};

struct Decision {
  int index = -1;      // into the views; -1: nobody
  std::string reason;  // why, for logs and headers
  Status refusal;      // with -1: what the client is told
};

// A pure function of the request's facts and the fleet's state; `turn` counts the requests, for policies that
// take turns.
using Policy = std::function<Decision(const RequestFacts&, std::span<const BackendView>, uint64_t turn)>;

class Fleet : public InferenceService, public std::enable_shared_from_this<Fleet> {
 public:
  static std::shared_ptr<Fleet> Make(Policy policy, uint32_t max_attempts);

  // A backend whose changes are told by Refresh; with `live`, it is described anew for every request instead.
  void Add(std::string name, std::shared_ptr<InferenceService> service, bool live = false);
  void Remove(const InferenceService* service);
  void Refresh(const InferenceService* service);

  EventStream Infer(Request request, Context context) override;
  // Models of all, sorted, best state each; loads added up; ready when one is.
  Snapshot Describe() const override;

  struct Backend {
    std::string name;
    std::shared_ptr<InferenceService> service;
    std::shared_ptr<const Snapshot> snapshot;
    bool live = false;
  };
  using Backends = std::shared_ptr<const std::vector<Backend>>;
  Backends backends() const;  // an immutable picture

 private:
  friend class RetryStream;
  Fleet(Policy policy, uint32_t max_attempts);
  void Change(const std::function<void(std::vector<Backend>&)>& f);

  const Policy policy_;
  const uint32_t max_attempts_;
  std::atomic<uint64_t> turn_{0};
  mutable Mutex mutex_;
  Backends backends_ CY_GUARDED_BY(mutex_);
};

// The first ready backend in the order they were added that has the model: a primary and its stand-ins.
Decision PickFirst(const RequestFacts& facts, std::span<const BackendView> views, uint64_t turn);

// What policies share: may this backend take this request?
bool Suits(const RequestFacts& facts, const BackendView& view);
// It has just failed this request in an earlier attempt: only where nobody else can.
bool Avoided(const RequestFacts& facts, const BackendView& view);
// What to say when none does: 404 when nobody who answers has the model, else 503 with the reason.
Status Refusal(const RequestFacts& facts, std::span<const BackendView> views);

}  // namespace cyllm
