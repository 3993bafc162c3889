// Requests of the peer.
#include <algorithm>
#include <utility>

#include "inference/session.h"
#include "inference/wire.h"

namespace cyllm {

namespace pb = cy::llm;

namespace {

pb::Frame EndFrame(uint64_t id, const Status& status) {
  pb::Frame frame;
  frame.set_id(id);
  frame.mutable_events()->set_end(true);
  if (!status.ok()) wire::Put(status, frame.mutable_events()->mutable_error());
  return frame;
}

}  // namespace

// Fields without a note are written before serving starts.
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

void Session::OnCancel(uint64_t id) {
  std::shared_ptr<Incoming> incoming;
  {
    MutexLock lock(mutex_);
    const auto it = incoming_.find(id);
    if (it == incoming_.end()) return;  // it has just ended
    if (!it->second->serving) {
      incoming_.erase(it);  // its payload was still arriving
      return;
    }
    incoming = it->second;
  }
  CancelIncoming(incoming);
}

void Session::OnCredit(uint64_t id, uint32_t deltas) {
  std::shared_ptr<Incoming> incoming;
  {
    MutexLock lock(mutex_);
    const auto it = incoming_.find(id);
    if (it == incoming_.end()) return;  // it has just ended
    incoming = it->second;
  }
  incoming->credit += deltas;
  incoming->signal->Notify();
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
  pb::Frame last = EndFrame(id, end);
  {
    MutexLock lock(mutex_);
    incoming_.erase(id);
    if (!closed_) outbox_.Events(std::move(last));
  }
  KickSoon(incoming->home);
}

void Session::DropUnserved() {
  std::erase_if(incoming_, [](const auto& entry) { return !entry.second->serving; });
}

void Session::CancelIncoming(const std::shared_ptr<Incoming>& incoming) {
  incoming->cancelled = true;
  incoming->signal->Notify();
  Post(incoming->home, [incoming] {
    if (incoming->stream) incoming->stream->Wake();
  });
}

void Session::SendEnd(uint64_t id, const Status& status) {
  pb::Frame frame = EndFrame(id, status);
  {
    MutexLock lock(mutex_);
    if (!closed_) outbox_.Events(std::move(frame));
  }
  Kick();
}

}  // namespace cyllm
