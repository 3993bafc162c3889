#include "inference/remote_service.h"

#include <ai_service.grpc.pb.h>
#include <grpcpp/grpcpp.h>

#include <random>
#include <thread>

#include "async/scope.h"
#include "base/log.h"
#include "base/mutex.h"
#include "inference/grpc_threads.h"
#include "inference/legacy.h"
#include "inference/session_grpc.h"
#include "inference/stream_predict.h"
#include "inference/wire.h"

namespace cyllm {
namespace {

namespace pb = cy::llm;

constexpr Millis kLegacyPoll{2'000};  // between Health calls to an old peer: short calls, no pings
constexpr Millis kUnaryDeadline{5'000};
// Of a Health call to an old peer that has answered before: with the poll, silence is noticed within 5 s.
constexpr Millis kHealthDeadline{1'450};
constexpr uint32_t kMissedCalls = 2;  // in a row, while no stream moves: it is gone
constexpr Millis kAskAgain{100};
constexpr size_t kPeerPrefixes = 16'384;  // changes kept until routing takes them

std::shared_ptr<grpc::Channel> MakeChannel(const RemoteOptions& options) {
  grpc::ChannelArguments args;
  const int limit = static_cast<int>(options.max_message_bytes + (1u << 20));
  args.SetMaxReceiveMessageSize(limit);
  args.SetMaxSendMessageSize(limit);
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, static_cast<int>(options.backoff_min.count()));
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, static_cast<int>(options.backoff_min.count()));
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, static_cast<int>(options.backoff_max.count()));
  std::string address = options.address;
  if (address.starts_with("unix://")) address = "unix:" + address.substr(7);
  return grpc::CreateCustomChannel(address, MakeChannelCredentials(options.tls, address), args);
}

void Prepare(grpc::ClientContext& context, const std::string& token, TimePoint deadline) {
  if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::duration_cast<Millis>(deadline - Clock::now()));
}

// One unary call of the contract, awaited.
template <class Request, class Reply>
struct Unary {
  explicit Unary(Executor home) : done(std::move(home)) {}
  grpc::ClientContext context;
  Request request;
  Reply reply;
  grpc::Status status;
  Signal done;
};

}  // namespace

struct RemoteService::Impl : std::enable_shared_from_this<RemoteService::Impl> {
  Impl(RemoteOptions o, IoPool& p)
      : options(std::move(o)),
        pool(p),
        home(pool.Next()),
        changed(home),
        channel(MakeChannel(options)),
        stub(pb::AiInference::NewStub(channel)) {}

  Task<> Run(std::shared_ptr<Impl>) {
    std::minstd_rand random(std::random_device{}());
    Millis backoff = options.backoff_min;
    while (!closing()) {
      bool worked = false;
      const Status end = co_await RunSession(worked);
      if (closing()) break;
      if (end.code == Code::kUnimplemented) worked = co_await RunLegacy();
      if (closing()) break;
      SetState(RemoteState::kDown, end);
      if (worked) backoff = options.backoff_min;
      const auto jitter =
          Millis(static_cast<int64_t>(random() % static_cast<uint64_t>(backoff.count() / 2 + 1)));
      const TimePoint again = Clock::now() + backoff / 2 + jitter;
      while (!closing() && Clock::now() < again) co_await changed.Wait(again);
      backoff = std::min(backoff * 2, options.backoff_max);
    }
  }

  // Until the session is over; `worked`: the peer had said Hello.
  Task<Status> RunSession(bool& worked) {
    struct Ending {
      Mutex mutex;
      std::optional<Status> status CY_GUARDED_BY(mutex);
      std::optional<Status> Get() {
        MutexLock lock(mutex);
        return status;
      }
    };
    auto ending = std::make_shared<Ending>();
    std::weak_ptr<Impl> weak = weak_from_this();
    SessionOptions session_options;
    session_options.name = options.name;
    session_options.serves = options.offer;
    session_options.max_payload_bytes = options.max_message_bytes;
    session_options.heartbeat = options.heartbeat;
    session_options.silence_limit = options.silence_limit;
    session_options.peer_prefixes = prefixes;
    session_options.on_peer = [weak] {
      if (auto impl = weak.lock()) {
        impl->changed.Notify();
        impl->TellChange();
      }
    };
    session_options.on_closed = [weak, ending](const Status& why) {
      {
        MutexLock lock(ending->mutex);
        ending->status = why;
      }
      if (auto impl = weak.lock()) impl->changed.Notify();
    };
    auto fresh = Session::Make(std::move(session_options), pool, scope);
    {
      MutexLock lock(mutex);
      if (draining) co_return Unavailable("shutting down", "draining");
      session = fresh;
      state = RemoteState::kConnecting;
    }
    DialSession(channel, options.internal_token, fresh);
    const TimePoint connect_until = Clock::now() + options.connect_timeout;
    while (true) {
      if (auto status = ending->Get()) {
        MutexLock lock(mutex);
        session.reset();
        co_return *status;
      }
      if (!worked && fresh->ready()) {
        worked = true;
        SetState(RemoteState::kSession, Status::Ok());
      }
      if (closing() || (!worked && Clock::now() >= connect_until)) {
        fresh->Abort(Unavailable("no answer"));
        co_await changed.Wait(Clock::now() + Millis(100));
        continue;
      }
      co_await changed.Wait(worked ? kNever : connect_until);
    }
  }

  // An old peer: asked for its health and models now and then, until it does not answer. True if it ever did.
  // One call that fails says little: its handler threads may all be at streams. It is asked again at once,
  // and is there as long as a stream of it moves.
  Task<bool> RunLegacy() {
    bool worked = false;
    uint32_t missed = 0;
    while (!closing()) {
      auto health = std::make_shared<Unary<pb::WorkerHealthRequest, pb::WorkerHealthResponse>>(home);
      const TimePoint asked = Clock::now();
      Prepare(health->context, options.internal_token, asked + (worked ? kHealthDeadline : kUnaryDeadline));
      stub->async()->Health(&health->context, &health->request, &health->reply,
                            [health](grpc::Status status) {
                              health->status = std::move(status);
                              health->done.Notify();
                            });
      co_await health->done.Wait();
      if (!health->status.ok()) {
        const bool moves = *legacy_progress >= asked.time_since_epoch().count();
        missed = moves ? 0 : missed + 1;
        if (!worked || missed >= kMissedCalls) co_return worked;
        const TimePoint again = Clock::now() + kAskAgain;
        while (!closing() && Clock::now() < again) co_await changed.Wait(again);
        continue;
      }
      missed = 0;
      auto list = std::make_shared<Unary<pb::ControlMessage, pb::ControlMessage>>(home);
      list->request.set_command("list_models");
      Prepare(list->context, options.internal_token, Clock::now() + kUnaryDeadline);
      stub->async()->Control(&list->context, &list->request, &list->reply, [list](grpc::Status status) {
        list->status = std::move(status);
        list->done.Notify();
      });
      co_await list->done.Wait();

      Snapshot snapshot = LegacySnapshot(health->reply, list->reply);
      bool news = false;
      {
        MutexLock lock(mutex);
        if (!list->status.ok()) snapshot.models = legacy_snapshot.models;
        news = legacy_snapshot != snapshot;
        legacy_snapshot = std::move(snapshot);
      }
      if (!worked) {
        worked = true;
        SetState(RemoteState::kLegacy, Status::Ok());
      } else if (news) {
        TellChange();
      }
      const TimePoint again = Clock::now() + kLegacyPoll;
      while (!closing() && Clock::now() < again) co_await changed.Wait(again);
    }
    co_return worked;
  }

  static Snapshot LegacySnapshot(const pb::WorkerHealthResponse& health, const pb::ControlMessage& list) {
    Snapshot snapshot;
    snapshot.ready = health.healthy();
    if (!snapshot.ready) {
      const auto error = health.metrics().find("error");
      snapshot.not_ready_reasons = {error == health.metrics().end() ? "unhealthy" : error->second};
    }
    const auto models = list.payload().find("models");
    if (models == list.payload().end()) return snapshot;
    size_t from = 0;
    const std::string& text = models->second;
    while (from <= text.size()) {
      const size_t comma = std::min(text.find(',', from), text.size());
      if (comma > from) {
        ModelInfo model;
        model.id = text.substr(from, comma - from);
        model.engine = "legacy";
        model.capabilities = kCapChat | kCapText | kCapLora;
        snapshot.models.push_back(std::move(model));
      }
      from = comma + 1;
    }
    return snapshot;
  }

  void SetState(RemoteState next, const Status& why) {
    {
      MutexLock lock(mutex);
      if (state == next && next != RemoteState::kDown) return;
      const bool first = !std::exchange(told_once, true);
      if (next == RemoteState::kDown) {
        if (last_told != next || first)
          Log()->warn("{}: not reachable ({})", options.address, why.ToString());
      } else {
        Log()->info("{}: connected{}", options.address, next == RemoteState::kLegacy ? " (old peer)" : "");
      }
      last_told = next;
      state = next;
    }
    TellChange();
  }

  void TellChange() {
    std::function<void()> f;
    {
      MutexLock lock(mutex);
      f = on_change;
    }
    if (f) f();
  }

  bool closing() const {
    MutexLock lock(mutex);
    return closed;
  }

  const RemoteOptions options;
  IoPool& pool;
  const Executor home;
  Signal changed;
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<pb::AiInference::Stub> stub;
  Scope scope;
  const std::shared_ptr<PrefixLog> prefixes = std::make_shared<PrefixLog>(kPeerPrefixes);
  mutable Mutex mutex;
  RemoteState state CY_GUARDED_BY(mutex) = RemoteState::kConnecting;
  RemoteState last_told CY_GUARDED_BY(mutex) = RemoteState::kConnecting;
  bool told_once CY_GUARDED_BY(mutex) = false;
  bool draining CY_GUARDED_BY(mutex) = false;  // no session is made any more
  bool closed CY_GUARDED_BY(mutex) = false;
  std::shared_ptr<Session> session CY_GUARDED_BY(mutex);
  Snapshot legacy_snapshot CY_GUARDED_BY(mutex);
  // When a stream of an old peer last said something: Clock ticks.
  const std::shared_ptr<std::atomic<int64_t>> legacy_progress = std::make_shared<std::atomic<int64_t>>(0);
  std::function<void()> on_change CY_GUARDED_BY(mutex);
};

RemoteService::RemoteService(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

std::shared_ptr<RemoteService> RemoteService::Make(RemoteOptions options, IoPool& pool) {
  KeepGrpcThreads();
  auto impl = std::make_shared<Impl>(std::move(options), pool);
  impl->scope.Spawn(impl->home, impl->Run(impl));
  return std::shared_ptr<RemoteService>(new RemoteService(std::move(impl)));
}

RemoteService::~RemoteService() { Close(); }

void RemoteService::Close() {
  std::shared_ptr<Session> session;
  {
    MutexLock lock(impl_->mutex);
    if (std::exchange(impl_->closed, true)) return;
    session = impl_->session;
    impl_->on_change = nullptr;
  }
  if (session) session->Abort(Unavailable("shutting down"));
  impl_->changed.Notify();
  impl_->scope.Close();
  impl_->scope.Join();
}

void RemoteService::BeginDrain() {
  std::shared_ptr<Session> session;
  {
    MutexLock lock(impl_->mutex);
    impl_->draining = true;
    session = impl_->session;
  }
  if (session) session->Goaway();
}

bool RemoteService::Drain(TimePoint until) {
  BeginDrain();
  std::shared_ptr<Session> session;
  {
    MutexLock lock(impl_->mutex);
    session = impl_->session;
  }
  if (!session) return true;
  while (!session->idle()) {
    if (Clock::now() >= until) return false;
    std::this_thread::sleep_for(Millis(5));
  }
  return true;
}

EventStream RemoteService::Infer(Request request, Context context) {
  std::shared_ptr<Session> session;
  RemoteState state;
  {
    MutexLock lock(impl_->mutex);
    session = impl_->session;
    state = impl_->state;
  }
  if (state == RemoteState::kSession && session)
    return session->Infer(std::move(request), std::move(context));
  if (state == RemoteState::kLegacy) {
    return CallStreamPredict(impl_->channel, impl_->options.internal_token, request, context,
                             impl_->legacy_progress);
  }
  return EndedStream(Unavailable("the server is not reachable", "not_connected"));
}

Snapshot RemoteService::Describe() const {
  std::shared_ptr<Session> session;
  {
    MutexLock lock(impl_->mutex);
    if (impl_->state == RemoteState::kLegacy) return impl_->legacy_snapshot;
    if (impl_->state == RemoteState::kSession) session = impl_->session;
  }
  Snapshot snapshot;
  if (!session) {
    snapshot.not_ready_reasons = {"not connected"};
    return snapshot;
  }
  snapshot = session->peer_snapshot();
  if (!session->ready()) snapshot.ready = false;
  return snapshot;
}

PrefixChanges RemoteService::PrefixesSince(uint64_t& cursor) const {
  return impl_->prefixes->Since(cursor, kPeerPrefixes);
}

RemoteState RemoteService::state() const {
  MutexLock lock(impl_->mutex);
  return impl_->state;
}

const std::string& RemoteService::address() const { return impl_->options.address; }

void RemoteService::OnChange(std::function<void()> f) {
  MutexLock lock(impl_->mutex);
  impl_->on_change = std::move(f);
}

Result<ControlReply> RemoteService::Control(const std::string& command,
                                            const std::map<std::string, std::string>& payload,
                                            TimePoint deadline) {
  grpc::ClientContext context;
  Prepare(context, impl_->options.internal_token, deadline);
  pb::ControlMessage request, reply;
  request.set_command(command);
  for (const auto& [key, value] : payload) (*request.mutable_payload())[key] = value;
  const grpc::Status status = impl_->stub->Control(&context, request, &reply);
  if (!status.ok()) return Err(legacy::FromPeer(FromGrpc(status).code, status.error_message()));
  return ControlReply(reply.payload().begin(), reply.payload().end());
}

Result<HealthReply> RemoteService::Health(TimePoint deadline) {
  grpc::ClientContext context;
  Prepare(context, impl_->options.internal_token, deadline);
  pb::WorkerHealthRequest request;
  pb::WorkerHealthResponse reply;
  const grpc::Status status = impl_->stub->Health(&context, request, &reply);
  if (!status.ok()) return Err(legacy::FromPeer(FromGrpc(status).code, status.error_message()));
  return HealthReply{reply.healthy(), {reply.metrics().begin(), reply.metrics().end()}};
}

}  // namespace cyllm
