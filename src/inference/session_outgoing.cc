// Requests to the peer.
#include <utility>

#include "inference/session.h"
#include "inference/wire.h"

namespace cyllm {

namespace pb = cy::llm;

namespace {
// A sender checks its credit before each batch; no honest batch holds so many deltas.
constexpr int64_t kOverdraft = 16'384;
}  // namespace

class Session::CreditListener final : public PipeListener {
 public:
  CreditListener(std::weak_ptr<Session> session, uint64_t id, uint32_t window)
      : session_(std::move(session)), id_(id), window_(window) {}

  void OnTaken(uint32_t deltas) override {
    taken_ += deltas;
    if (taken_ < window_ / 2) return;
    if (auto session = session_.lock()) session->Grant(id_, taken_);
    taken_ = 0;
  }
  void OnDropped() override {
    if (auto session = session_.lock()) session->CancelOutgoing(id_);
  }

 private:
  const std::weak_ptr<Session> session_;
  const uint64_t id_;
  const uint32_t window_;
  uint32_t taken_ = 0;
};

EventStream Session::Infer(Request request, Context context) {
  pb::Frame frame;
  pb::Submit* submit = frame.mutable_submit();
  wire::Put(request.facts, submit->mutable_request()->mutable_facts());
  wire::Put(context, Clock::now(), submit->mutable_request()->mutable_context());
  submit->set_credit(options_.credit);
  request.payload->pieces();  // encoded here, outside the lock

  uint64_t id = 0;
  {
    MutexLock lock(mutex_);
    if (closed_ || !hello_ || peer_goaway_)
      return EndedStream(Unavailable("the server is not reachable", "not_connected"));
    id = next_id_++;
  }
  auto [pipe, stream] =
      EventPipe::Make(context.home, std::make_shared<CreditListener>(weak_from_this(), id, options_.credit));
  {
    MutexLock lock(mutex_);
    if (closed_) return EndedStream(Unavailable("the connection was lost", "connection_lost"));
    outgoing_.emplace(id, Outgoing{std::move(pipe), options_.credit});
    frame.set_id(id);
    outbox_.Submit(std::move(frame), std::move(request.payload));
  }
  Kick();
  return std::move(stream);
}

void Session::OnEvents(uint64_t id, const pb::EventBatch& events) {
  Batch batch;
  uint32_t deltas = 0;
  batch.reserve(static_cast<size_t>(events.events_size()));
  for (const pb::Event& event : events.events()) {
    batch.push_back(wire::Get(event));
    deltas += IsDelta(batch.back());
  }
  std::shared_ptr<EventPipe> pipe;
  bool flooding = false;
  {
    MutexLock lock(mutex_);
    const auto it = outgoing_.find(id);
    if (it == outgoing_.end()) return;  // dropped meanwhile
    pipe = it->second.pipe;
    it->second.allowed -= deltas;
    flooding = it->second.allowed < -kOverdraft;
    if (events.end() || flooding) outgoing_.erase(it);
  }
  if (flooding) {
    CancelOutgoing(id);
    pipe->End(MakeStatus(Code::kInternal, "the server sent more than it was asked for"));
    return;
  }
  pipe->Push(std::move(batch));
  if (events.end()) pipe->End(events.has_error() ? wire::Get(events.error()) : Status::Ok());
}

void Session::Grant(uint64_t id, uint32_t deltas) {
  pb::Frame frame;
  frame.set_id(id);
  frame.mutable_credit()->set_events(deltas);
  {
    MutexLock lock(mutex_);
    const auto it = outgoing_.find(id);
    if (closed_ || it == outgoing_.end()) return;
    it->second.allowed += deltas;
    outbox_.Control(std::move(frame));
  }
  Kick();
}

void Session::CancelOutgoing(uint64_t id) {
  {
    MutexLock lock(mutex_);
    outgoing_.erase(id);
    if (closed_ || outbox_.DropSubmit(id)) return;
    pb::Frame frame;
    frame.set_id(id);
    frame.mutable_cancel();
    outbox_.Control(std::move(frame));
  }
  Kick();
}

}  // namespace cyllm
