// One end of the multiplexed stream between two of our processes (AiSession): many requests in both
// directions over one connection. Knows no transport: it is handed messages and asked for messages.
#pragma once

#include <ai_service.pb.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "async/io_pool.h"
#include "async/scope.h"
#include "async/signal.h"
#include "base/mutex.h"
#include "inference/event_pipe.h"
#include "inference/service.h"
#include "inference/session_outbox.h"

namespace cyllm {

// The connection under a session.
class SessionTransport {
 public:
  virtual ~SessionTransport() = default;
  // The session has something to send: TakeMessage when writing is possible. Thread-safe, never blocks, never
  // calls back into the session from inside.
  virtual void Kick() = 0;
  // Ends the connection; Session::OnClosed follows. Thread-safe, never blocks, never calls back from inside.
  virtual void Abort(const Status& why) = 0;
};

struct SessionOptions {
  std::string name;                          // of this process, said in Hello
  std::shared_ptr<InferenceService> serves;  // answers the peer's submits; null: they are refused
  size_t max_payload_bytes = 100u << 20;     // of one request
  uint32_t max_requests = 4096;              // of the peer, running at once; more are refused as overloaded
  uint32_t credit = 256;                     // deltas a submitted request may have under way
  Millis heartbeat{1'000};
  Millis silence_limit{4'000};  // without any message from the peer: dead
  Millis quiet_after{2'000};    // the same: its snapshot is quiet, until something is heard
  // Called on some thread, without locks: after the peer's Hello, and whenever its snapshot changed.
  std::function<void()> on_peer;
  // Where the peer's reports of its prefix caches go; null: nowhere.
  std::shared_ptr<PrefixLog> peer_prefixes;
  // Called once, when the session is over.
  std::function<void(const Status&)> on_closed;
};

// Thread-safe. Owned by its transport and by whoever submits through it.
class Session : public std::enable_shared_from_this<Session> {
 public:
  static constexpr uint32_t kVersion = 1;
  static constexpr uint32_t kMinVersion = 1;

  // Tasks run on `pool`, inside `scope`; both outlive the session.
  static std::shared_ptr<Session> Make(SessionOptions options, IoPool& pool, Scope& scope);
  ~Session();

  // Sends Hello and starts the heartbeat. Lets go of `transport` at OnClosed.
  void Start(std::shared_ptr<SessionTransport> transport);

  // For the transport. OnMessage is called serially.
  bool TakeMessage(cy::llm::SessionMessage* out);  // the one before is written
  void OnMessage(const cy::llm::SessionMessage& message);
  void OnClosed(const Status& why);

  // Submits to the peer. UNAVAILABLE (retryable) when closed or told to go away.
  EventStream Infer(Request request, Context context);

  bool ready() const;  // Hello received, not closed, peer takes requests
  std::string peer_name() const;
  bool peer_serves() const;
  Snapshot peer_snapshot() const;

  void Goaway();                  // refuses new submits of the peer; running ones finish
  void Abort(const Status& why);  // ends everything now
  size_t incoming() const;        // requests being served for the peer
  bool idle() const;       // no request in either direction, nothing left to write to a peer that is there
  bool peer_left() const;  // the peer said go-away

 private:
  struct Outgoing {
    std::shared_ptr<EventPipe> pipe;
    int64_t allowed = 0;  // deltas the peer may still send; overdrawn by a batch at most
  };
  struct Incoming;
  class CreditListener;

  Session(SessionOptions options, IoPool& pool, Scope& scope);
  void ReadMessage(const cy::llm::SessionMessage& message);
  void OnHello(const cy::llm::Hello& hello);
  // Requests of the peer: session_incoming.cc.
  void OnSubmit(uint64_t id, const cy::llm::Submit& submit);
  void OnBody(uint64_t id, const cy::llm::SubmitBody& body);
  void OnCancel(uint64_t id);
  void OnCredit(uint64_t id, uint32_t deltas);
  void StartServing(std::shared_ptr<Incoming> incoming);
  // Coroutines start later: they are handed what keeps the session alive.
  Task<> Serve(std::shared_ptr<Session> self, std::shared_ptr<Incoming> incoming);
  void DropUnserved() CY_REQUIRES(mutex_);  // those whose payload has not come
  void CancelIncoming(const std::shared_ptr<Incoming>& incoming);
  void SendEnd(uint64_t id, const Status& status);
  // Requests to the peer: session_outgoing.cc.
  void OnEvents(uint64_t id, const cy::llm::EventBatch& events);
  void Grant(uint64_t id, uint32_t deltas);
  void CancelOutgoing(uint64_t id);
  void Listen(Millis silence);
  Task<> Pulse(std::shared_ptr<Session> self, Snapshot told);  // in Hello
  void Kick();
  void KickSoon(const Executor& home);
  std::shared_ptr<SessionTransport> transport() const;

  const SessionOptions options_;
  IoPool& pool_;
  Scope& scope_;
  Signal closed_signal_;
  std::atomic<int64_t> last_heard_{0};   // Clock ticks
  std::atomic<bool> kick_soon_ = false;  // posted

  mutable Mutex mutex_;
  std::shared_ptr<SessionTransport> transport_ CY_GUARDED_BY(mutex_);
  SessionOutbox outbox_ CY_GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, Outgoing> outgoing_ CY_GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, std::shared_ptr<Incoming>> incoming_ CY_GUARDED_BY(mutex_);
  uint64_t next_id_ CY_GUARDED_BY(mutex_) = 1;
  bool hello_ CY_GUARDED_BY(mutex_) = false;
  bool sending_ CY_GUARDED_BY(mutex_) = false;  // a message was taken and may not be written yet
  bool closed_ CY_GUARDED_BY(mutex_) = false;
  bool peer_goaway_ CY_GUARDED_BY(mutex_) = false;
  bool own_goaway_ CY_GUARDED_BY(mutex_) = false;
  std::string peer_name_ CY_GUARDED_BY(mutex_);
  bool peer_serves_ CY_GUARDED_BY(mutex_) = false;
  Snapshot peer_snapshot_ CY_GUARDED_BY(mutex_);
  bool quiet_ CY_GUARDED_BY(mutex_) = false;
};

}  // namespace cyllm
