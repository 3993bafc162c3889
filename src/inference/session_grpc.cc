#include "inference/session_grpc.h"

#include <functional>

#include "base/log.h"

namespace cyllm {
namespace {

using cy::llm::SessionMessage;

// What both ends of a call share: one write under way at most; `quit` runs once, when reading has ended and
// no write is under way, so that nothing is started on a reactor that is going.
class Link final : public SessionTransport {
 public:
  struct Hooks {
    std::function<void(const SessionMessage*)> start_write;
    std::function<void()> quit;    // lets the reactor finish
    std::function<void()> cancel;  // of the call, at once
  };
  Link(std::shared_ptr<Session> session, Hooks hooks)
      : session_(std::move(session)), hooks_(std::move(hooks)) {}

  void Kick() override {
    {
      MutexLock lock(mutex_);
      if (ended_ || broken_) return;
      if (writing_) {
        again_ = true;
        return;
      }
      writing_ = true;
    }
    WriteNext();
  }

  void Abort(const Status& why) override {
    Log()->debug("session with '{}' aborted: {}", session_->peer_name(), why.ToString());
    MutexLock lock(alive_mutex_);
    if (alive_) hooks_.cancel();
  }

  void OnWritten(bool ok) {
    if (ok) return WriteNext();
    MutexLock lock(mutex_);
    broken_ = true;
    StopWriting();
  }

  void OnReadingEnded() {
    MutexLock lock(mutex_);
    ended_ = true;
    if (!writing_) hooks_.quit();
  }

  void OnDone(const Status& status) {
    {
      MutexLock lock(alive_mutex_);
      alive_ = false;
    }
    session_->OnClosed(status);
  }

  Session& session() { return *session_; }

 private:
  // With writing_ set.
  void WriteNext() {
    while (true) {
      {
        MutexLock lock(mutex_);
        if (ended_) return StopWriting();
        again_ = false;
      }
      if (session_->TakeMessage(&out_)) return hooks_.start_write(&out_);
      MutexLock lock(mutex_);
      if (!again_) return StopWriting();
    }
  }

  void StopWriting() CY_REQUIRES(mutex_) {
    writing_ = false;
    if (ended_) hooks_.quit();
  }

  const std::shared_ptr<Session> session_;
  const Hooks hooks_;
  SessionMessage out_;  // of who has set writing_
  Mutex mutex_;
  bool writing_ CY_GUARDED_BY(mutex_) = false;
  bool again_ CY_GUARDED_BY(mutex_) = false;   // kicked while writing
  bool ended_ CY_GUARDED_BY(mutex_) = false;   // reading has ended
  bool broken_ CY_GUARDED_BY(mutex_) = false;  // writing has failed
  Mutex alive_mutex_;                          // apart from mutex_: a cancel may run reactions
  bool alive_ CY_GUARDED_BY(alive_mutex_) = true;
};

class DialledCall final : public grpc::ClientBidiReactor<SessionMessage, SessionMessage> {
 public:
  DialledCall(const std::shared_ptr<grpc::Channel>& channel, const std::string& token,
              std::shared_ptr<Session> session)
      : stub_(cy::llm::AiSession::NewStub(channel)),
        link_(std::make_shared<Link>(
            std::move(session), Link::Hooks{[this](const SessionMessage* m) { StartWrite(m); },
                                            [this] { RemoveHold(); }, [this] { context_.TryCancel(); }})) {
    if (!token.empty()) context_.AddMetadata("authorization", "Bearer " + token);
    stub_->async()->Attach(&context_, this);
    AddHold();  // writes start outside of reactions
    StartRead(&in_);
    link_->session().Start(link_);
    StartCall();  // last: a call that fails at once deletes this on gRPC's thread
  }

  void OnReadDone(bool ok) override {
    if (!ok) return link_->OnReadingEnded();
    link_->session().OnMessage(in_);
    StartRead(&in_);
  }
  void OnWriteDone(bool ok) override { link_->OnWritten(ok); }
  void OnDone(const grpc::Status& status) override {
    link_->OnDone(FromGrpc(status));
    delete this;
  }

 private:
  std::unique_ptr<cy::llm::AiSession::Stub> stub_;
  grpc::ClientContext context_;
  SessionMessage in_;
  std::shared_ptr<Link> link_;
};

class AcceptedCall final : public grpc::ServerBidiReactor<SessionMessage, SessionMessage> {
 public:
  AcceptedCall(grpc::CallbackServerContext* context, std::shared_ptr<Session> session)
      : link_(std::make_shared<Link>(
            std::move(session),
            Link::Hooks{[this](const SessionMessage* m) { StartWrite(m); },
                        [this] { Finish(grpc::Status::OK); }, [context] { context->TryCancel(); }})) {
    StartRead(&in_);
    link_->session().Start(link_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return link_->OnReadingEnded();
    link_->session().OnMessage(in_);
    StartRead(&in_);
  }
  void OnWriteDone(bool ok) override { link_->OnWritten(ok); }
  void OnDone() override {
    link_->OnDone(Unavailable("the peer went away"));
    delete this;
  }

 private:
  SessionMessage in_;
  std::shared_ptr<Link> link_;
};

}  // namespace

void DialSession(const std::shared_ptr<grpc::Channel>& channel, const std::string& internal_token,
                 std::shared_ptr<Session> session) {
  new DialledCall(channel, internal_token, std::move(session));  // deletes itself in OnDone
}

grpc::ServerBidiReactor<SessionMessage, SessionMessage>* AcceptSession(grpc::CallbackServerContext* context,
                                                                       std::shared_ptr<Session> session) {
  return new AcceptedCall(context, std::move(session));
}

Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return Status::Ok();
  const int code = status.error_code();
  Status out =
      MakeStatus(code >= 0 && code <= 16 ? static_cast<Code>(code) : Code::kUnknown, status.error_message());
  out.retryable = out.code == Code::kUnavailable || out.code == Code::kResourceExhausted;
  return out;
}

grpc::Status ToGrpc(const Status& status) {
  return status.ok() ? grpc::Status::OK
                     : grpc::Status(static_cast<grpc::StatusCode>(status.code), status.message);
}

}  // namespace cyllm
