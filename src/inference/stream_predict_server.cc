#include <atomic>

#include "async/signal.h"
#include "base/log.h"
#include "inference/legacy.h"
#include "inference/session_grpc.h"
#include "inference/stream_predict.h"
#include "inference/wire.h"

namespace cyllm {
namespace {

using cy::llm::StreamPredictRequest;
using cy::llm::StreamPredictResponse;
using Reactor = grpc::ServerBidiReactor<StreamPredictRequest, StreamPredictResponse>;

// gRPC keeps deadlines on the system clock.
TimePoint DeadlineOf(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return kNever;
  return After(Clock::now(),
               std::chrono::duration_cast<Clock::duration>(deadline - std::chrono::system_clock::now()));
}

class PredictCall final : public Reactor {
 public:
  PredictCall(grpc::CallbackServerContext* context, std::shared_ptr<InferenceService> service, IoPool& pool,
              Scope& scope, size_t max_prompt_chars)
      : service_(std::move(service)),
        scope_(scope),
        max_prompt_chars_(max_prompt_chars),
        deadline_(DeadlineOf(*context)),
        home_(pool.Next()),
        signal_(home_),
        self_(this) {
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "Empty request stream"));
    } else if (!scope_.Spawn(home_, Serve(self_))) {
      Finish(ToGrpc(Unavailable("shutting down")));
    }
  }

  void OnWriteDone(bool ok) override {
    written_ = true;
    if (!ok) cancelled_ = true;
    signal_.Notify();
  }

  void OnCancel() override {
    cancelled_ = true;
    signal_.Notify();
    Post(home_, [self = self_] {
      if (self->stream_) self->stream_->Wake();
    });
  }

  void OnDone() override { self_.reset(); }

 private:
  Task<> Serve(std::shared_ptr<PredictCall> self) {
    const bool new_peer = request_.has_facts();
    auto request = legacy::GetRequest(std::move(request_), max_prompt_chars_, Clock::now());
    if (!request) {
      Finish(ToGrpc(request.error()));
      co_return;
    }
    auto& [facts_and_payload, context] = *request;
    if (facts_and_payload.facts.model.empty()) facts_and_payload.facts.model = "default";
    context.home = home_;
    context.deadline = std::min(context.deadline, deadline_);
    legacy::ResponseWriter writer(context.request_id, Clock::now());
    EventStream stream = service_->Infer(std::move(facts_and_payload), context);
    stream_ = stream.get();
    Status end = co_await Forward(*stream, writer, new_peer);
    stream_ = nullptr;
    stream.reset();
    if (end.ok()) {
      response_.Clear();
      writer.WriteEnd(Clock::now(), &response_);
      co_await Write();
    } else if (new_peer && !cancelled_) {
      response_.Clear();
      wire::Put(end, response_.mutable_error());
      co_await Write();
    }
    Finish(ToGrpc(end));
  }

  Task<Status> Forward(EventSource& stream, legacy::ResponseWriter& writer, bool new_peer) {
    while (!cancelled_) {
      NextResult next = co_await stream.Next(deadline_);
      if (next.what == NextResult::What::kEnd) co_return next.end;
      if (next.what == NextResult::What::kTimeout && Clock::now() >= deadline_) {
        co_return MakeStatus(Code::kDeadlineExceeded, "Deadline Exceeded");
      }
      for (const Event& event : next.events) {
        response_.Clear();
        if (!writer.Write(event, Clock::now(), &response_) && !new_peer) continue;
        co_await Write();
        if (cancelled_) break;
      }
    }
    co_return MakeStatus(Code::kCancelled, "cancelled by the caller");
  }

  Task<> Write() {
    written_ = false;
    StartWrite(&response_);
    while (!written_) co_await signal_.Wait();
  }

  const std::shared_ptr<InferenceService> service_;
  Scope& scope_;
  const size_t max_prompt_chars_;
  const TimePoint deadline_;
  const Executor home_;
  Signal signal_;
  StreamPredictRequest request_;
  StreamPredictResponse response_;
  std::atomic<bool> written_{false}, cancelled_{false};
  EventSource* stream_ = nullptr;      // on home only
  std::shared_ptr<PredictCall> self_;  // until OnDone
};

}  // namespace

Reactor* ServeStreamPredict(grpc::CallbackServerContext* context, std::shared_ptr<InferenceService> service,
                            IoPool& pool, Scope& scope, size_t max_prompt_chars) {
  return new PredictCall(context, std::move(service), pool, scope, max_prompt_chars);
}

}  // namespace cyllm
