#include "inference/session.h"

#include <utility>

#include "base/log.h"
#include "inference/wire.h"

namespace cyllm {

namespace pb = cy::llm;

namespace {

pb::Frame GoawayFrame() {
  pb::Frame frame;
  frame.mutable_goaway()->set_reason("draining");
  return frame;
}

}  // namespace

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
  Snapshot told;
  if (options_.serves) {
    told = options_.serves->Describe();
    wire::Put(told, hello->mutable_snapshot());
  }
  last_heard_ = Clock::now().time_since_epoch().count();
  {
    MutexLock lock(mutex_);
    transport_ = std::move(transport);
    outbox_.Control(std::move(frame));
    if (own_goaway_) outbox_.Control(GoawayFrame());
  }
  Kick();
  scope_.Spawn(closed_signal_.home(), Pulse(shared_from_this(), std::move(told)));
}

Task<> Session::Pulse(std::shared_ptr<Session>, Snapshot told) {
  // Changes of our snapshot are told within a quarter of a heartbeat; silence is a heartbeat of its own.
  const Millis tick = std::max(options_.heartbeat / 4, Millis(1));
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
    Listen(std::chrono::duration_cast<Millis>(now - heard));
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

void Session::Listen(Millis silence) {
  const bool quiet = silence > options_.quiet_after;
  {
    MutexLock lock(mutex_);
    if (closed_ || !hello_ || quiet == quiet_) return;
    quiet_ = quiet;
  }
  if (options_.on_peer) options_.on_peer();
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
  sending_ = !closed_ && outbox_.Take(out);
  return sending_;
}

void Session::OnMessage(const pb::SessionMessage& message) {
  last_heard_.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed);
  Signal::Together([&] { ReadMessage(message); });
}

void Session::ReadMessage(const pb::SessionMessage& message) {
  bool snapshot_changed = false;
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
        OnCancel(frame.id());
        break;
      case pb::Frame::kCredit:
        OnCredit(frame.id(), frame.credit().events());
        break;
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

void Session::OnClosed(const Status& why) {
  std::unordered_map<uint64_t, Outgoing> outgoing;
  std::unordered_map<uint64_t, std::shared_ptr<Incoming>> incoming;
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    closed_ = true;
    transport_.reset();
    outgoing.swap(outgoing_);
    DropUnserved();
    incoming = incoming_;
  }
  closed_signal_.Notify();
  for (auto& [id, request] : outgoing)
    request.pipe->End(Unavailable("the connection was lost", "connection_lost"));
  for (const auto& [id, request] : incoming) CancelIncoming(request);
  if (options_.on_closed) options_.on_closed(why);
}

void Session::Abort(const Status& why) {
  if (auto to = transport()) to->Abort(why);
}

void Session::Goaway() {
  {
    MutexLock lock(mutex_);
    if (closed_ || std::exchange(own_goaway_, true) || !transport_) return;
    outbox_.Control(GoawayFrame());
  }
  Kick();
}

size_t Session::incoming() const {
  MutexLock lock(mutex_);
  return incoming_.size();
}

bool Session::idle() const {
  MutexLock lock(mutex_);
  const bool written = outbox_.empty() && !sending_;
  return incoming_.empty() && outgoing_.empty() && (written || !hello_ || closed_);
}

bool Session::peer_left() const {
  MutexLock lock(mutex_);
  return peer_goaway_;
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
  snapshot.quiet = quiet_;
  if (peer_goaway_) {
    snapshot.ready = false;
    snapshot.not_ready_reasons = {"draining"};
  }
  return snapshot;
}

}  // namespace cyllm
