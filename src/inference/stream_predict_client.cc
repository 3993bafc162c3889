#include "base/log.h"
#include "base/mutex.h"
#include "inference/event_pipe.h"
#include "inference/legacy.h"
#include "inference/session_grpc.h"
#include "inference/stream_predict.h"

namespace cyllm {
namespace {

using cy::llm::StreamPredictRequest;
using cy::llm::StreamPredictResponse;

constexpr int64_t kWindow = 64;  // deltas read ahead of the reader

// One call. Owns itself until OnDone; the reader's end of the pipe reaches it through a weak pointer.
class PredictClientCall final : public grpc::ClientBidiReactor<StreamPredictRequest, StreamPredictResponse>,
                                public std::enable_shared_from_this<PredictClientCall> {
 public:
  PredictClientCall(const std::shared_ptr<grpc::Channel>& channel, uint32_t prompt_tokens,
                    std::string request_id, std::shared_ptr<std::atomic<int64_t>> progress)
      : stub_(cy::llm::AiInference::NewStub(channel)),
        reader_(prompt_tokens),
        request_id_(std::move(request_id)),
        progress_(std::move(progress)) {}

  void Start(const std::string& token, TimePoint deadline, StreamPredictRequest request,
             std::shared_ptr<EventPipe> pipe) {
    self_ = shared_from_this();
    pipe_ = std::move(pipe);
    request_ = std::move(request);
    if (!token.empty()) context_.AddMetadata("authorization", "Bearer " + token);
    if (deadline != kNever) {
      context_.set_deadline(std::chrono::system_clock::now() +
                            std::chrono::duration_cast<Millis>(deadline - Clock::now()));
    }
    stub_->async()->StreamPredict(&context_, this);
    AddHold();  // reads start outside of reactions
    StartWriteLast(&request_, grpc::WriteOptions());
    StartRead(&response_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return RemoveHold();
    if (progress_) *progress_ = Clock::now().time_since_epoch().count();
    Batch events;
    const Status refused = reader_.Read(response_, &events);
    int64_t deltas = 0;
    for (const Event& event : events) deltas += IsDelta(event);
    pipe_->Push(std::move(events));
    if (!refused.ok()) pipe_->End(refused);
    {
      MutexLock lock(mutex_);
      credit_ -= deltas;
      if (credit_ <= 0 && !dropped_) {
        paused_ = true;
        return;
      }
    }
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    if (!status.ok()) {
      Log()->info("{} StreamPredict: {} {}", request_id_, static_cast<int>(status.error_code()),
                  status.error_message());
      pipe_->End(legacy::FromPeer(FromGrpc(status).code, status.error_message()));
    } else if (reader_.finished()) {
      pipe_->End(Status::Ok());
    } else {
      pipe_->End(MakeStatus(Code::kInternal, "the worker ended the stream without a final message"));
    }
    self_.reset();
  }

  // The reader's side.
  void Grant(int64_t deltas) {
    {
      MutexLock lock(mutex_);
      credit_ += deltas;
      if (!paused_) return;
      paused_ = false;
    }
    StartRead(&response_);
  }
  void Cancel() {
    bool was_paused = false;
    {
      MutexLock lock(mutex_);
      dropped_ = true;
      was_paused = std::exchange(paused_, false);
    }
    context_.TryCancel();
    if (was_paused) RemoveHold();
  }

 private:
  std::unique_ptr<cy::llm::AiInference::Stub> stub_;
  grpc::ClientContext context_;
  StreamPredictRequest request_;
  StreamPredictResponse response_;
  legacy::ResponseReader reader_;
  const std::string request_id_;
  const std::shared_ptr<std::atomic<int64_t>> progress_;  // may be null
  std::shared_ptr<EventPipe> pipe_;
  std::shared_ptr<PredictClientCall> self_;
  Mutex mutex_;
  int64_t credit_ CY_GUARDED_BY(mutex_) = kWindow;
  bool paused_ CY_GUARDED_BY(mutex_) = false;  // no read is under way
  bool dropped_ CY_GUARDED_BY(mutex_) = false;
};

class CallListener final : public PipeListener {
 public:
  explicit CallListener(std::weak_ptr<PredictClientCall> call) : call_(std::move(call)) {}
  void OnTaken(uint32_t deltas) override {
    if (auto call = call_.lock()) call->Grant(deltas);
  }
  void OnDropped() override {
    if (auto call = call_.lock()) call->Cancel();
  }

 private:
  const std::weak_ptr<PredictClientCall> call_;
};

}  // namespace

EventStream CallStreamPredict(const std::shared_ptr<grpc::Channel>& channel,
                              const std::string& internal_token, const Request& request,
                              const Context& context, std::shared_ptr<std::atomic<int64_t>> progress) {
  StreamPredictRequest message;
  if (Status status = legacy::PutRequest(request, context, &message); !status.ok())
    return EndedStream(status);
  auto call = std::make_shared<PredictClientCall>(channel, request.facts.prompt_tokens_estimate,
                                                  context.request_id, std::move(progress));
  auto [pipe, stream] = EventPipe::Make(context.home, std::make_shared<CallListener>(call));
  call->Start(internal_token, context.deadline, std::move(message), std::move(pipe));
  return std::move(stream);
}

}  // namespace cyllm
