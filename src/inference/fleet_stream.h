// One request on its way through a fleet: picked, waiting, retried. Made by Fleet::Infer.
#pragma once

#include "inference/fleet.h"

namespace cyllm {

class FleetStream final : public EventSource {
 public:
  FleetStream(std::shared_ptr<Fleet> fleet, Request request, Context context)
      : fleet_(std::move(fleet)),
        request_(std::move(request)),
        context_(std::move(context)),
        model_(fleet_->table()->MeantBy(request_.facts.model)) {}
  ~FleetStream() override;

  Task<NextResult> Next(TimePoint wake_at) override;
  void Wake() override;

 private:
  void Start();
  void Park();
  void Submit(const Fleet::Row& row, const WorkerView& view, const Decision& decision);
  // The attempt is over; `why` OK: its answer is complete. Decides whether there is another one.
  void Ended(Status why);
  void LeaveBackend(Verdict verdict);
  void LeaveQueue();
  void PrefillDone();
  void End(Status status);
  void Note(Batch& events);
  Tried HowFar() const;

  const std::shared_ptr<Fleet> fleet_;
  const Request request_;
  const Context context_;
  const std::string model_;  // whose queue it waits in
  EventStream inner_;
  std::shared_ptr<Fleet::Backend> backend_;  // with inner_
  std::shared_ptr<StreamGroup::Member> member_;
  std::shared_ptr<WaitQueue::Ticket> ticket_;
  Tries tries_;
  RouteReceipt receipt_;
  std::string worker_;            // asked last
  uint32_t context_length_ = 0;   // of its model
  uint32_t prefill_ = 0;          // counted in backend_->prefill
  std::optional<Tried> further_;  // what a fleet behind this one says
  uint32_t lost_behind_ = 0;      // workers that were lost in fleets behind this one
  Millis queued_{0};
  uint32_t finished_ = 0;  // choices
  uint64_t charge_ = 0;    // tokens that the backend has computed
  bool probe_ = false, delivered_ = false, ended_ = false, woken_ = false, told_queued_ = false;
  bool picked_ = false, accepted_ = false, tell_tried_ = false;
  bool runs_ = false;  // backend_ has accepted it
  Status end_;
};

}  // namespace cyllm
