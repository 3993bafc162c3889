#include "inference/grpc_server.h"

#include <ai_service.grpc.pb.h>
#include <grpcpp/grpcpp.h>
#include <openssl/crypto.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <random>

#include "async/scope.h"
#include "base/log.h"
#include "base/mutex.h"
#include "inference/grpc_threads.h"
#include "inference/session_grpc.h"
#include "inference/stream_predict.h"
#include "inference/wire.h"

namespace cyllm {
namespace {

namespace pb = cy::llm;

constexpr char kNoTraining[] =
    "training is not part of CY-LLM Community Edition's server; train elsewhere and serve the resulting "
    "adapter";

bool IsLocal(const std::string& peer) {
  return peer.starts_with("unix:") || peer.starts_with("ipv4:127.") || peer.starts_with("ipv6:[::1]") ||
         peer.starts_with("ipv6:%5B::1%5D");
}

// The contract: `authorization: Bearer <token>`, exactly; compared in constant time.
Status CheckToken(const grpc::CallbackServerContext& context, const std::string& token) {
  if (token.empty()) return Status::Ok();
  const auto& metadata = context.client_metadata();
  const auto it = metadata.find("authorization");
  if (it == metadata.end()) return MakeStatus(Code::kUnauthenticated, "Missing authorization token");
  const std::string expected = "Bearer " + token;
  const grpc::string_ref& given = it->second;
  if (given.size() == expected.size() && CRYPTO_memcmp(given.data(), expected.data(), expected.size()) == 0) {
    return Status::Ok();
  }
  return MakeStatus(Code::kUnauthenticated, "Invalid internal token");
}

// A random UUID (version 4).
std::string NewTraceId() {
  std::random_device random;
  const auto word = [&] { return static_cast<uint32_t>(random()); };
  const uint32_t a = word(), b = word(), c = word(), d = word();
  char text[37];
  std::snprintf(text, sizeof(text), "%08x-%04x-4%03x-%04x-%04x%08x", a, b >> 16, b & 0xfff,
                0x8000 | (c >> 18), c & 0xffff, d);
  return text;
}

template <class In, class Out>
grpc::ServerBidiReactor<In, Out>* RefuseCall(const Status& status) {
  struct Refused final : grpc::ServerBidiReactor<In, Out> {
    explicit Refused(const Status& status) { this->Finish(ToGrpc(status)); }
    void OnDone() override { delete this; }
  };
  return new Refused(status);
}

constexpr size_t kPeerPrefixes = 16'384;  // changes kept until routing takes them

// A peer that attached and serves, as a service.
class SessionPeer final : public InferenceService {
 public:
  SessionPeer(std::shared_ptr<Session> session, std::shared_ptr<PrefixLog> prefixes)
      : session_(std::move(session)), prefixes_(std::move(prefixes)) {}
  EventStream Infer(Request request, Context context) override {
    return session_->Infer(std::move(request), std::move(context));
  }
  Snapshot Describe() const override {
    Snapshot snapshot = session_->peer_snapshot();
    if (!session_->ready()) snapshot.ready = false;
    return snapshot;
  }
  PrefixChanges PrefixesSince(uint64_t& cursor) const override {
    return prefixes_->Since(cursor, kPeerPrefixes);
  }

 private:
  const std::shared_ptr<Session> session_;
  const std::shared_ptr<PrefixLog> prefixes_;
};

// A Unix socket's path may be taken over when its owner is dead, and only then.
Status ClearSocket(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    close(fd);
    return InvalidArgument("the socket path " + path + " is longer than the system allows");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const bool alive = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  const int error = errno;
  close(fd);
  if (alive) return MakeStatus(Code::kAlreadyExists, "the socket " + path + " belongs to a running process");
  if (error == ECONNREFUSED) unlink(path.c_str());
  return Status::Ok();
}

}  // namespace

struct GrpcServer::Impl {
  // ---- services

  class Inference final : public pb::AiInference::CallbackService {
   public:
    explicit Inference(Impl& impl) : impl_(impl) {}

    grpc::ServerBidiReactor<pb::StreamPredictRequest, pb::StreamPredictResponse>* StreamPredict(
        grpc::CallbackServerContext* context) override {
      if (Status status = CheckToken(*context, impl_.options.internal_token); !status.ok()) {
        return RefuseCall<pb::StreamPredictRequest, pb::StreamPredictResponse>(status);
      }
      const auto& edge = impl_.options.edge;
      return ServeStreamPredict(context, edge ? edge : impl_.service, impl_.pool, impl_.calls,
                                impl_.options.max_prompt_chars);
    }

    grpc::ServerUnaryReactor* Control(grpc::CallbackServerContext* context, const pb::ControlMessage* request,
                                      pb::ControlMessage* reply) override {
      auto* reactor = context->DefaultReactor();
      if (Status status = CheckToken(*context, impl_.options.internal_token); !status.ok()) {
        reactor->Finish(ToGrpc(status));
        return reactor;
      }
      Post(impl_.control_pool.At(0), [this, reactor, request, reply] {
        reply->set_trace_id(request->trace_id().empty() ? NewTraceId() : request->trace_id());
        reply->set_command(request->command() + "_response");
        const std::map<std::string, std::string> payload(request->payload().begin(),
                                                         request->payload().end());
        for (auto& [key, value] : impl_.control->Control(request->command(), payload)) {
          (*reply->mutable_payload())[key] = value;
        }
        reactor->Finish(grpc::Status::OK);
      });
      return reactor;
    }

    grpc::ServerUnaryReactor* Health(grpc::CallbackServerContext* context, const pb::WorkerHealthRequest*,
                                     pb::WorkerHealthResponse* reply) override {
      auto* reactor = context->DefaultReactor();
      Post(impl_.control_pool.At(0), [this, reactor, reply] {
        HealthReply health = impl_.control->Health();
        reply->set_healthy(health.healthy);
        for (auto& [key, value] : health.metrics) (*reply->mutable_metrics())[key] = value;
        wire::Put(impl_.service->Describe(), reply->mutable_snapshot());
        reactor->Finish(grpc::Status::OK);
      });
      return reactor;
    }

   private:
    Impl& impl_;
  };

  class Sessions final : public pb::AiSession::CallbackService {
   public:
    explicit Sessions(Impl& impl) : impl_(impl) {}
    grpc::ServerBidiReactor<pb::SessionMessage, pb::SessionMessage>* Attach(
        grpc::CallbackServerContext* context) override {
      if (Status status = CheckToken(*context, impl_.options.internal_token); !status.ok()) {
        return RefuseCall<pb::SessionMessage, pb::SessionMessage>(status);
      }
      auto session = impl_.NewSession(*context);
      if (!session) return RefuseCall<pb::SessionMessage, pb::SessionMessage>(Unavailable("shutting down"));
      return AcceptSession(context, std::move(session));
    }

   private:
    Impl& impl_;
  };

  class Training final : public pb::AiTraining::CallbackService {
   public:
    explicit Training(Impl& impl) : impl_(impl) {}

    grpc::ServerWriteReactor<pb::TrainingProgress>* StartTraining(grpc::CallbackServerContext* context,
                                                                  const pb::TrainingRequest*) override {
      return Refuse<pb::TrainingProgress>(context);
    }
    grpc::ServerWriteReactor<pb::CustomScriptExecutionProgress>* ExecuteCustomScript(
        grpc::CallbackServerContext* context, const pb::CustomScriptExecutionRequest*) override {
      return Refuse<pb::CustomScriptExecutionProgress>(context);
    }
    grpc::ServerUnaryReactor* GetTrainingStatus(grpc::CallbackServerContext* context,
                                                const pb::TrainingStatusRequest*,
                                                pb::TrainingStatusResponse*) override {
      return RefuseUnary(context);
    }
    grpc::ServerUnaryReactor* CancelTraining(grpc::CallbackServerContext* context,
                                             const pb::CancelTrainingRequest*,
                                             pb::CancelTrainingResponse*) override {
      return RefuseUnary(context);
    }
    grpc::ServerUnaryReactor* ListTrainingJobs(grpc::CallbackServerContext* context,
                                               const pb::ListTrainingJobsRequest*,
                                               pb::ListTrainingJobsResponse*) override {
      return RefuseUnary(context);
    }
    grpc::ServerUnaryReactor* CancelCustomScript(grpc::CallbackServerContext* context,
                                                 const pb::CancelCustomScriptRequest*,
                                                 pb::CancelCustomScriptResponse*) override {
      return RefuseUnary(context);
    }

   private:
    grpc::Status Refusal(const grpc::CallbackServerContext& context) const {
      const Status status = CheckToken(context, impl_.options.internal_token);
      return status.ok() ? grpc::Status(grpc::StatusCode::UNIMPLEMENTED, kNoTraining) : ToGrpc(status);
    }
    grpc::ServerUnaryReactor* RefuseUnary(grpc::CallbackServerContext* context) {
      auto* reactor = context->DefaultReactor();
      reactor->Finish(Refusal(*context));
      return reactor;
    }
    template <class Message>
    grpc::ServerWriteReactor<Message>* Refuse(grpc::CallbackServerContext* context) {
      struct Refused final : grpc::ServerWriteReactor<Message> {
        explicit Refused(const grpc::Status& status) { this->Finish(status); }
        void OnDone() override { delete this; }
      };
      return new Refused(Refusal(*context));
    }
    Impl& impl_;
  };

  // ---- sessions

  // Null while draining.
  std::shared_ptr<Session> NewSession(const grpc::CallbackServerContext& context) {
    const bool may_register =
        options.accept_serving_peers && (!options.internal_token.empty() || IsLocal(context.peer()));

    SessionOptions session_options;
    session_options.name = options.name;
    session_options.serves = service;
    session_options.max_payload_bytes = options.max_message_bytes;
    // The session is not made yet when its callbacks are written down: they look it up here.
    struct Registration {
      std::weak_ptr<Session> session;
      Mutex mutex;
      std::shared_ptr<SessionPeer> peer CY_GUARDED_BY(mutex);
    };
    auto registration = std::make_shared<Registration>();
    const auto prefixes = may_register ? std::make_shared<PrefixLog>(kPeerPrefixes) : nullptr;
    session_options.peer_prefixes = prefixes;
    session_options.on_peer = [this, registration, may_register, prefixes] {
      auto session = registration->session.lock();
      if (!session || !session->peer_serves()) return;
      if (!may_register) {
        Log()->warn("'{}' may not register here: set CY_LLM_INTERNAL_TOKEN on both sides",
                    session->peer_name());
        session->Abort(MakeStatus(Code::kUnauthenticated, "Internal token required"));
        return;
      }
      std::shared_ptr<SessionPeer> peer;
      bool is_new = false;
      {
        MutexLock lock(registration->mutex);
        if (!registration->peer) {
          registration->peer = std::make_shared<SessionPeer>(session, prefixes);
          is_new = true;
        }
        peer = registration->peer;
      }
      const auto& callback = is_new ? listener.on_attached : listener.on_changed;
      if (callback) callback({session->peer_name(), peer});
    };
    session_options.on_closed = [this, registration](const Status&) {
      std::shared_ptr<SessionPeer> peer;
      {
        MutexLock lock(registration->mutex);
        peer = std::exchange(registration->peer, nullptr);
      }
      const auto session = registration->session.lock();
      if (peer && listener.on_gone) listener.on_gone({{}, peer, session && session->peer_left()});
    };
    auto session = Session::Make(std::move(session_options), pool, calls);
    registration->session = session;
    MutexLock lock(mutex);
    if (draining) return nullptr;  // who drains has those told that are in the list
    std::erase_if(sessions, [](const std::weak_ptr<Session>& s) { return s.expired(); });
    sessions.push_back(session);
    return session;
  }

  std::vector<std::shared_ptr<Session>> LiveSessions() {
    std::vector<std::shared_ptr<Session>> live;
    MutexLock lock(mutex);
    for (const auto& weak : sessions) {
      if (auto session = weak.lock()) live.push_back(std::move(session));
    }
    return live;
  }

  GrpcServerOptions options;
  IoPool& pool;
  std::shared_ptr<InferenceService> service;
  ControlHandler* control;
  AttachListener listener;
  IoPool control_pool{1, "control"};  // Control and Health may wait for the fleet
  Scope calls;
  Inference inference{*this};
  Sessions session_service{*this};
  Training training{*this};
  std::unique_ptr<grpc::Server> server;
  std::vector<int> ports;
  std::vector<std::string> socket_paths;
  Mutex mutex;
  bool draining CY_GUARDED_BY(mutex) = false;
  std::vector<std::weak_ptr<Session>> sessions CY_GUARDED_BY(mutex);

  Impl(GrpcServerOptions o, IoPool& p, std::shared_ptr<InferenceService> s, ControlHandler* c,
       AttachListener l)
      : options(std::move(o)), pool(p), service(std::move(s)), control(c), listener(std::move(l)) {}
};

GrpcServer::GrpcServer(GrpcServerOptions options, IoPool& pool, std::shared_ptr<InferenceService> service,
                       ControlHandler* control, AttachListener listener)
    : impl_(std::make_unique<Impl>(std::move(options), pool, std::move(service), control,
                                   std::move(listener))) {}

GrpcServer::~GrpcServer() { Stop(); }

Status GrpcServer::Start() {
  KeepGrpcThreads();
  grpc::ServerBuilder builder;
  const int limit = static_cast<int>(impl_->options.max_message_bytes + (1u << 20));
  builder.SetMaxReceiveMessageSize(limit);
  builder.SetMaxSendMessageSize(limit);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a taken port is an error, not a shared one
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  std::vector<int> bound(impl_->options.listen.size(), 0);
  for (size_t i = 0; i < impl_->options.listen.size(); ++i) {
    std::string address = impl_->options.listen[i];
    if (address.starts_with("unix:")) {
      std::string path = address.substr(5);
      if (path.starts_with("//")) path = path.substr(2);
      if (Status status = ClearSocket(path); !status.ok()) return status;
      impl_->socket_paths.push_back(path);
      address = "unix:" + path;
    }
    builder.AddListeningPort(address, MakeServerCredentials(impl_->options.tls, address), &bound[i]);
  }
  builder.RegisterService(&impl_->inference);
  builder.RegisterService(&impl_->session_service);
  builder.RegisterService(&impl_->training);
  impl_->server = builder.BuildAndStart();
  for (size_t i = 0; i < bound.size(); ++i) {
    const std::string& address = impl_->options.listen[i];
    if (!impl_->server || (bound[i] == 0 && !address.starts_with("unix:"))) {
      return MakeStatus(Code::kFailedPrecondition,
                        "cannot listen on " + (bound[i] == 0 ? address : impl_->options.listen.front()) +
                            ": is it taken, or not an address of this machine?");
    }
    if (!address.starts_with("unix:")) impl_->ports.push_back(bound[i]);
  }
  return Status::Ok();
}

std::vector<int> GrpcServer::ports() const { return impl_->ports; }

void GrpcServer::BeginDrain() {
  {
    MutexLock lock(impl_->mutex);
    impl_->draining = true;
  }
  for (const auto& session : impl_->LiveSessions()) session->Goaway();
  impl_->calls.Close();
}

bool GrpcServer::Drain(TimePoint until) {
  BeginDrain();
  // A peer that heard the go-away closes its session when its requests are done, which ends the session's
  // tasks.
  return impl_->calls.Join(until);
}

void GrpcServer::Stop() {
  if (!impl_->server) return;
  impl_->calls.Close();
  for (const auto& session : impl_->LiveSessions()) session->Abort(Unavailable("shutting down"));
  impl_->server->Shutdown(std::chrono::system_clock::now() + Millis(200));
  impl_->server->Wait();
  impl_->server.reset();
  impl_->calls.Join();
  for (const std::string& path : impl_->socket_paths) unlink(path.c_str());
}

}  // namespace cyllm
