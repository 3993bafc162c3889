#include "inference/session.h"

#include <utility>

#include "base/log.h"
#include "inference/wire.h"

namespace cyllm {

namespace pb = cy::llm;

namespace {
// A sender checks its credit before each batch; no honest batch holds so many deltas.
constexpr int64_t kOverdraft = 16'384;
}  // namespace

// A request of the peer. Fields without a note are written before serving starts.
struct Session::Incoming {
  uint64_t id = 0;
  Executor home;
  Request request;
  Context context;
  std::string body;  // arriving payload
  uint64_t payload_size = 0;
  bool serving = false;            // guarded by Session::mutex_
  std::unique_ptr<Signal> signal;  // credit or cancel came
  std::atomic<int64_t> credit{0};  // deltas the peer will still take
  std::atomic<bool> cancelled{false};
  EventSource* stream = nullptr;  // on home only, while Serve runs
};

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

Session::Session(SessionOptions options, IoPool& pool, Scope& scope)
    : options_(std::move(options)), pool_(pool), scope_(scope), closed_signal_(pool.Next()) {}

Session::~Session() = default;

std::shared_ptr<Session> Session::Make(SessionOptions options, IoPool& pool, Scope& scope) {
  return std::shared_ptr<Session>(new Session(std::move(options), pool, scope));
}

void Session::Start(std::shared_ptr<SessionTransport> transport) {
  pb::Frame frame;
  pb::Hello* hello = frame.mutable_hello();
  hello->set_version(kVersion);
  hello->set_min_version(kMinVersion);
  hello->set_name(options_.name);
  hello->set_serves(options_.serves != nullptr);
  if (options_.serves) wire::Put(options_.serves->Describe(), hello->mutable_snapshot());
  last_heard_ = Clock::now().time_since_epoch().count();
  {
    MutexLock lock(mutex_);
    transport_ = std::move(transport);
    outbox_.Control(std::move(frame));
  }
  Kick();
  scope_.Spawn(closed_signal_.home(), Pulse(shared_from_this()));
}

Task<> Session::Pulse(std::shared_ptr<Session>) {
  // Changes of our snapshot are told within a quarter of a heartbeat; silence is a heartbeat of its own.
  const Millis tick = std::max(options_.heartbeat / 4, Millis(1));
  Snapshot told = options_.serves ? options_.serves->Describe() : Snapshot{};
  TimePoint last_sent = Clock::now();
  uint64_t sequence = 0, prefix_cursor = 0;
  while (!co_await closed_signal_.Wait(Clock::now() + tick)) {
    const TimePoint now = Clock::now();
    if (peer_left() && idle()) {
      Abort(Unavailable("the peer is going away", "draining"));
      co_return;
    }
    const TimePoint heard{Clock::duration(last_heard_.load(std::memory_order_relaxed))};
    if (now - heard > options_.silence_limit) {
      Log()->warn("session with '{}': nothing heard for {} ms", peer_name(),
                  std::chrono::duration_cast<Millis>(now - heard).count());
      Abort(Unavailable("the connection went silent"));
      co_return;
    }
    Snapshot snapshot = options_.serves ? options_.serves->Describe() : Snapshot{};
    const bool changed = snapshot != told;
    const PrefixChanges prefixes =
        options_.serves ? options_.serves->PrefixesSince(prefix_cursor) : PrefixChanges{};
    if (!changed && prefixes.empty() && now - last_sent < options_.heartbeat) continue;
    pb::Frame frame;
    frame.mutable_heartbeat()->set_sequence(++sequence);
    if (changed) wire::Put(snapshot, frame.mutable_heartbeat()->mutable_snapshot());
    frame.mutable_heartbeat()->mutable_prefixes_held()->Add(prefixes.held.begin(), prefixes.held.end());
    frame.mutable_heartbeat()->mutable_prefixes_dropped()->Add(prefixes.dropped.begin(),
                                                               prefixes.dropped.end());
    told = std::move(snapshot);
    last_sent = now;
    {
      MutexLock lock(mutex_);
      if (closed_) co_return;
      outbox_.Control(std::move(frame));
    }
    Kick();
  }
}

std::shared_ptr<SessionTransport> Session::transport() const {
  MutexLock lock(mutex_);
  return transport_;
}

void Session::Kick() {
  if (auto to = transport()) to->Kick();
}

// After what else is ready on `home`: what that adds to the outbox goes out in the same message.
void Session::KickSoon(const Executor& home) {
  if (kick_soon_.exchange(true)) return;
  Post(home, [self = shared_from_this()] {
    self->kick_soon_ = false;
    self->Kick();
  });
}

bool Session::TakeMessage(pb::SessionMessage* out) {
  MutexLock lock(mutex_);
  return !closed_ && outbox_.Take(out);
}

void Session::OnMessage(const pb::SessionMessage& message) {
  last_heard_.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed);
  bool snapshot_changed = false;
  const Signal::Together together;
  for (const pb::Frame& frame : message.frames()) {
    {
      MutexLock lock(mutex_);
      if (closed_) return;
      if (!hello_ && !frame.has_hello()) continue;  // a newer peer's frames before Hello: not for us
    }
    switch (frame.kind_case()) {
      case pb::Frame::kHello:
        OnHello(frame.hello());
        break;
      case pb::Frame::kHeartbeat:
        if (options_.peer_prefixes) {
          const auto& held = frame.heartbeat().prefixes_held();
          const auto& dropped = frame.heartbeat().prefixes_dropped();
          options_.peer_prefixes->Add({held.data(), static_cast<size_t>(held.size())},
                                      {dropped.data(), static_cast<size_t>(dropped.size())});
        }
        if (frame.heartbeat().has_snapshot()) {
          MutexLock lock(mutex_);
          peer_snapshot_ = wire::Get(frame.heartbeat().snapshot());
          snapshot_changed = true;
        }
        break;
      case pb::Frame::kSubmit:
        OnSubmit(frame.id(), frame.submit());
        break;
      case pb::Frame::kBody:
        OnBody(frame.id(), frame.body());
        break;
      case pb::Frame::kEvents:
        OnEvents(frame.id(), frame.events());
        break;
      case pb::Frame::kCancel:
      case pb::Frame::kCredit: {
        std::shared_ptr<Incoming> incoming;
        {
          MutexLock lock(mutex_);
          const auto it = incoming_.find(frame.id());
          if (it == incoming_.end()) break;  // it has just ended
          incoming = it->second;
          if (frame.has_cancel() && !incoming->serving) {
            incoming_.erase(it);  // its payload was still arriving
            break;
          }
        }
        if (frame.has_cancel()) {
          CancelIncoming(incoming);
        } else {
          incoming->credit += frame.credit().events();
          incoming->signal->Notify();
        }
        break;
      }
      case pb::Frame::kGoaway: {
        MutexLock lock(mutex_);
        peer_goaway_ = true;
        snapshot_changed = true;
        break;
      }
      case pb::Frame::KIND_NOT_SET:
        break;  // a newer peer's frame
    }
  }
  if (snapshot_changed && options_.on_peer) options_.on_peer();
}

void Session::OnHello(const pb::Hello& hello) {
  if (hello.version() < kMinVersion || hello.min_version() > kVersion) {
    Log()->error("session: '{}' speaks versions {} to {}, this process {} to {}", hello.name(),
                 hello.min_version(), hello.version(), kMinVersion, kVersion);
    Abort(MakeStatus(Code::kFailedPrecondition, "no common session version"));
    return;
  }
  {
    MutexLock lock(mutex_);
    hello_ = true;
    peer_name_ = hello.name();
    peer_serves_ = hello.serves();
    peer_snapshot_ = wire::Get(hello.snapshot());
  }
  if (options_.on_peer) options_.on_peer();
}

// ---- requests of the peer

void Session::OnSubmit(uint64_t id, const pb::Submit& submit) {
  auto incoming = std::make_shared<Incoming>();
  incoming->id = id;
  incoming->home = pool_.Next();
  incoming->signal = std::make_unique<Signal>(incoming->home);
  incoming->credit = submit.credit();
  incoming->payload_size = submit.payload_size();
  incoming->request.facts = wire::Get(submit.request().facts());
  incoming->context = wire::Get(submit.request().context(), Clock::now());
  incoming->context.home = incoming->home;
  Status refused;
  bool complete = false;
  {
    MutexLock lock(mutex_);
    if (own_goaway_) {
      refused = Unavailable("shutting down", "draining");
    } else if (!options_.serves) {
      refused = MakeStatus(Code::kUnimplemented, "this process serves no requests on this connection");
    } else if (incoming_.size() >= options_.max_requests) {
      refused = Unavailable("too many requests on this connection", "overloaded", Millis(1'000));
    } else if (submit.payload_size() > options_.max_payload_bytes) {
      refused = InvalidArgument("the request is too large", {}, "request_too_large");
    } else if (!incoming_.emplace(id, incoming).second) {
      refused = MakeStatus(Code::kInternal, "request id used twice");
    }
    complete = refused.ok() && submit.payload_size() == 0;
    if (complete) incoming->serving = true;
  }
  if (!refused.ok()) {
    SendEnd(id, refused);
  } else if (complete) {
    StartServing(std::move(incoming));
  }
}

void Session::OnBody(uint64_t id, const pb::SubmitBody& body) {
  std::shared_ptr<Incoming> incoming;
  {
    MutexLock lock(mutex_);
    const auto it = incoming_.find(id);
    if (it == incoming_.end() || it->second->serving) return;  // refused or cancelled meanwhile
    Incoming& request = *it->second;
    if (body.data().size() > request.payload_size - request.body.size()) {
      incoming_.erase(it);  // more than announced: answered below
    } else {
      // No more memory than a multiple of what has come.
      const size_t now = request.body.size() + body.data().size();
      if (now > request.body.capacity())
        request.body.reserve(std::min<uint64_t>(request.payload_size, 32 * now));
      request.body += body.data();
      if (request.body.size() < request.payload_size) return;
      request.serving = true;
      incoming = it->second;
    }
  }
  if (incoming) {
    StartServing(std::move(incoming));
  } else {
    SendEnd(id, MakeStatus(Code::kInternal, "payload longer than announced"));
  }
}

void Session::StartServing(std::shared_ptr<Incoming> incoming) {
  incoming->request.payload = Payload::FromBytes(std::move(incoming->body));
  const uint64_t id = incoming->id;
  const Executor home = incoming->home;
  if (scope_.Spawn(home, Serve(shared_from_this(), std::move(incoming)))) return;
  {
    MutexLock lock(mutex_);
    incoming_.erase(id);
  }
  SendEnd(id, Unavailable("shutting down", "draining"));
}

Task<> Session::Serve(std::shared_ptr<Session>, std::shared_ptr<Incoming> incoming) {
  const uint64_t id = incoming->id;
  EventStream stream = options_.serves->Infer(std::move(incoming->request), incoming->context);
  incoming->stream = stream.get();
  Status end;
  while (true) {
    if (incoming->cancelled) {
      end = MakeStatus(Code::kCancelled, "cancelled by the caller");
      break;
    }
    if (incoming->credit <= 0) {
      co_await incoming->signal->Wait();
      continue;
    }
    NextResult next = co_await stream->Next(kNever);
    if (next.what == NextResult::What::kTimeout) continue;
    if (next.what == NextResult::What::kEnd) {
      end = std::move(next.end);
      break;
    }
    int64_t deltas = 0;
    size_t bytes = 0;
    pb::Frame frame;
    const auto send = [&] {
      frame.set_id(id);
      MutexLock lock(mutex_);
      outbox_.Events(std::exchange(frame, {}));
    };
    for (const Event& event : next.events) {
      pb::Event* out = frame.mutable_events()->add_events();
      wire::Put(event, out);
      deltas += IsDelta(event);
      bytes += out->ByteSizeLong();
      if (bytes >= SessionOutbox::kMessageBytes / 2) {
        send();
        bytes = 0;
      }
    }
    if (bytes > 0) send();
    incoming->credit -= deltas;
    KickSoon(incoming->home);
  }
  incoming->stream = nullptr;
  stream.reset();
  {
    MutexLock lock(mutex_);
    incoming_.erase(id);
  }
  PutEnd(id, end);
  KickSoon(incoming->home);
}

void Session::CancelIncoming(const std::shared_ptr<Incoming>& incoming) {
  incoming->cancelled = true;
  incoming->signal->Notify();
  Post(incoming->home, [incoming] {
    if (incoming->stream) incoming->stream->Wake();
  });
}

void Session::SendEnd(uint64_t id, const Status& status) {
  PutEnd(id, status);
  Kick();
}

void Session::PutEnd(uint64_t id, const Status& status) {
  pb::Frame frame;
  frame.set_id(id);
  frame.mutable_events()->set_end(true);
  if (!status.ok()) wire::Put(status, frame.mutable_events()->mutable_error());
  MutexLock lock(mutex_);
  if (!closed_) outbox_.Events(std::move(frame));
}

size_t Session::incoming() const {
  MutexLock lock(mutex_);
  return incoming_.size();
}

bool Session::idle() const {
  MutexLock lock(mutex_);
  return incoming_.empty() && outgoing_.empty() && outbox_.empty();
}

bool Session::peer_left() const {
  MutexLock lock(mutex_);
  return peer_goaway_;
}

// ---- our requests

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

// ---- the session itself

void Session::OnClosed(const Status& why) {
  std::unordered_map<uint64_t, Outgoing> outgoing;
  std::unordered_map<uint64_t, std::shared_ptr<Incoming>> incoming;
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    closed_ = true;
    transport_.reset();
    outgoing.swap(outgoing_);
    incoming = incoming_;
  }
  closed_signal_.Notify();
  for (auto& [id, request] : outgoing)
    request.pipe->End(Unavailable("the connection was lost", "connection_lost"));
  for (auto& [id, request] : incoming) {
    if (request->home) CancelIncoming(request);
  }
  if (options_.on_closed) options_.on_closed(why);
}

void Session::Abort(const Status& why) {
  if (auto to = transport()) to->Abort(why);
}

void Session::Goaway(const std::string& reason) {
  pb::Frame frame;
  frame.mutable_goaway()->set_reason(reason);
  {
    MutexLock lock(mutex_);
    if (closed_ || std::exchange(own_goaway_, true)) return;
    outbox_.Control(std::move(frame));
  }
  Kick();
}

bool Session::ready() const {
  MutexLock lock(mutex_);
  return hello_ && !closed_ && !peer_goaway_;
}

std::string Session::peer_name() const {
  MutexLock lock(mutex_);
  return peer_name_;
}

bool Session::peer_serves() const {
  MutexLock lock(mutex_);
  return peer_serves_;
}

Snapshot Session::peer_snapshot() const {
  MutexLock lock(mutex_);
  Snapshot snapshot = peer_snapshot_;
  snapshot.name = peer_name_;
  if (peer_goaway_) {
    snapshot.ready = false;
    snapshot.not_ready_reasons = {"draining"};
  }
  return snapshot;
}

}  // namespace cyllm
