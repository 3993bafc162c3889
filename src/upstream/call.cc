#include "upstream/call.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio.hpp>

#include "base/log.h"
#include "upstream/openai/continuation.h"
#include "upstream/openai/error.h"
#include "upstream/openai/sse.h"

namespace cyllm::upstream {

namespace asio = boost::asio;

namespace {

constexpr size_t kMaxEvent = 8u << 20;
constexpr size_t kMaxBody = 256u << 20;
constexpr size_t kMaxErrorBody = 1u << 20;
// For the end of a body whose last event has come: then its connection can be used again.
constexpr Millis kTail{1'000};

bool IsStreamed(Kind kind) { return kind == Kind::kChat || kind == Kind::kText || kind == Kind::kTokens; }

void AppendHeader(std::string& out, std::string_view name, const std::string& value) {
  const bool clean = std::ranges::all_of(value, [](unsigned char c) { return c >= ' ' && c < 0x7f; });
  if (!value.empty() && clean && value.size() <= 512)
    fmt::format_to(std::back_inserter(out), "{}: {}\r\n", name, value);
}

class CallStream final : public EventSource {
 public:
  explicit CallStream(std::shared_ptr<Call> call) : call_(std::move(call)) {}
  ~CallStream() override { call_->Leave(); }
  Task<NextResult> Next(TimePoint wake_at) override { return call_->Next(wake_at); }
  void Wake() override { call_->Wake(); }

 private:
  const std::shared_ptr<Call> call_;
};

// No token is asked for: nothing that the server would have to do.
Batch NoTokens(const Request& request, const AnswerOptions& expected) {
  Batch events = {Accepted{0, 0, expected.worker, expected.digest, expected.resumable, {}}};
  for (uint32_t i = 0; i < request.facts.choices; ++i) {
    Finished finished;
    finished.choice = i;
    finished.reason = FinishReason::kLength;
    events.push_back(finished);
  }
  return events;
}

}  // namespace

EventStream StreamOf(std::shared_ptr<Call> call) { return std::make_unique<CallStream>(std::move(call)); }

Call::Call(std::shared_ptr<Upstream::Core> core, Request request, Context context)
    : core_(std::move(core)),
      request_(std::move(request)),
      context_(std::move(context)),
      begun_(Clock::now()),
      heard_(begun_),
      news_(context_.home),
      demand_(context_.home) {}

Task<NextResult> Call::Next(TimePoint wake_at) {
  const auto self = shared_from_this();
  if (!started_) Start();
  NextResult result;
  while (true) {
    if (!events_.empty()) {
      result.what = NextResult::What::kEvents;
      result.events = std::exchange(events_, {});
      co_return result;
    }
    if (!ended_ && Clock::now() >= context_.deadline)
      Fail(MakeStatus(Code::kDeadlineExceeded, "the request took longer than it was given", "timeout"));
    if (ended_) {
      result.end = end_;
      co_return result;
    }
    if (!std::exchange(wanted_, true)) demand_.Notify();
    const bool waits = wake_at != kPoll && !std::exchange(woken_, false);
    if (!waits || (!co_await news_.Wait(std::min(wake_at, context_.deadline)) && Clock::now() >= wake_at)) {
      result.what = NextResult::What::kTimeout;
      co_return result;
    }
  }
}

void Call::Wake() {
  woken_ = true;
  news_.Notify();
}

void Call::Cancel() {
  if (!started_ || std::exchange(stopped_, true)) return;
  stop_.emit(asio::cancellation_type::terminal);
}

void Call::Leave() {
  if (!ended_) Cancel();
}

void Call::Fail(const Status& why) {
  End(why);
  Cancel();
}

void Call::Start() {
  started_ = true;
  if (!core_->Register(shared_from_this())) {
    stopped_ = true;
    return End(Unavailable("the server is shutting down", "draining"));
  }
  asio::co_spawn(
      context_.home, Run(),
      asio::bind_cancellation_slot(stop_.slot(), [self = shared_from_this()](std::exception_ptr error) {
        if (error && !std::exchange(self->stopped_, true)) {
          try {
            std::rethrow_exception(error);
          } catch (const std::exception& e) {
            Log()->error("{} ended by exception: {}", self->context_.request_id, e.what());
          }
          self->End(Garbage());
        }
        self->stopped_ = true;
        self->core_->Unregister(self.get());
      }));
}

Task<> Call::Run() {
  core_->metrics.requests.Increment();
  const Status status = co_await Ask();
  if (!stopped_) Settle(status);
}

Task<Status> Call::Ask() {
  const RequestFacts& facts = request_.facts;
  const Result<const PayloadParts*> parts = request_.payload->parts();
  if (!parts) co_return parts.error();
  const Profile& profile = *core_->profile.load();
  if (facts.needs & ~profile.capabilities)
    co_return MakeStatus(Code::kUnimplemented, "the model's server cannot do what the request needs",
                         "unsupported");
  const std::string model = core_->ModelName(facts.model);
  expected_ = {.kind = facts.kind,
               .choices = facts.choices,
               .worker = core_->options.name,
               .start = begun_,
               .usage_per_choice = profile.usage_per_choice,
               .ids_by_logprobs = profile.ids_by_logprobs && CanContinue(profile, facts, **parts),
               .digest = core_->DigestOf(model),
               .resumable = CanContinue(profile, facts, **parts),
               .begun = {}};
  const bool begun = !facts.resume.choices.empty();
  expected_.verbatim = facts.verbatim && !begun;
  expected_.hidden = {profile.token_ids, expected_.ids_by_logprobs};
  const uint64_t delivered = begun ? facts.resume.choices.front().delivered.tokens : 0;
  if (IsStreamed(facts.kind) && facts.max_tokens && *facts.max_tokens <= delivered) {
    Push(NoTokens(request_, expected_));
    co_return Status::Ok();
  }
  const std::shared_ptr<HttpClient> client = core_->ClientOf(home());
  if (!client) co_return Unavailable("the server is shutting down", "draining");
  Result<HttpCall> http =
      begun ? co_await Continue(*client, profile, model) : ToHttp(profile, model, facts, **parts);
  if (!http) co_return http.error();
  if (begun) {  // as a completion, whatever it was
    expected_.kind = Kind::kTokens;
    expected_.begun = facts.resume.choices.front().delivered;
  }
  co_await Wanted();
  ClientCall call{"POST", std::move(http->path), std::move(http->body), Headers(),
                  std::min(After(Clock::now(), core_->options.first_byte_limit), context_.deadline)};
  const auto answer = co_await client->Send(std::move(call));
  heard_ = Clock::now();
  if (!answer) co_return answer.error();
  if ((*answer)->status / 100 != 2) {
    const auto body = co_await ReadAll(**answer, kMaxErrorBody, After(heard_, core_->options.silence_limit));
    std::string detail;
    const Status status =
        FromHttp((*answer)->status, body ? *body : std::string(), (*answer)->retry_after, &detail);
    Log()->info("{}: {} answered {}: {}", context_.request_id, core_->options.name, (*answer)->status,
                detail);
    co_return status;
  }
  if (IsStreamed(facts.kind) && (*answer)->event_stream) co_return co_await ReadStream(**answer);
  co_return co_await ReadWhole(**answer);
}

Task<Status> Call::ReadStream(ClientAnswer& answer) {
  SseParser sse(kMaxEvent);
  StreamAnswer decoder(expected_);
  std::vector<std::string> found;
  while (true) {
    co_await Wanted();
    const Result<std::string> piece = co_await answer.Read(After(Clock::now(), core_->options.silence_limit));
    heard_ = Clock::now();
    Batch batch;
    Status status;
    if (!piece || piece->empty()) {
      status = decoder.OnEnd(batch);
      // A body that broke off is as good as whole when all of the answer has come.
      if (!status.ok() && !piece && piece.error().reason != kClosed) status = piece.error();
      Push(std::move(batch));
      co_return status;
    }
    found.clear();
    if (!sse.Feed(*piece, found)) status = Garbage();
    std::string detail;
    for (size_t i = 0; i < found.size() && status.ok(); ++i)
      status = decoder.OnData(found[i], heard_, batch, &detail);
    if (!status.ok())
      Log()->info("{}: {} failed on its stream: {}", context_.request_id, core_->options.name,
                  detail.empty() ? status.message : detail);
    const bool over = !status.ok() || decoder.done();
    if (status.ok() && over) status = decoder.OnEnd(batch);
    Push(std::move(batch));
    if (!over) continue;
    Settle(status);  // the reader need not wait for the body's end
    if (status.ok()) {
      const TimePoint until = After(Clock::now(), kTail);
      for (auto tail = co_await answer.Read(until); tail && !tail->empty();)
        tail = co_await answer.Read(until);
    }
    co_return status;
  }
}

Task<Status> Call::ReadWhole(ClientAnswer& answer) {
  const auto body = co_await ReadAll(answer, kMaxBody, After(Clock::now(), core_->options.silence_limit));
  if (!body) co_return body.error();
  Batch batch;
  std::string detail;
  const size_t inputs = (*request_.payload->parts())->inputs.size();
  const Status status = ReadBody(request_.facts.kind, inputs, *body, core_->options.name, batch, &detail);
  if (!status.ok())
    Log()->info("{}: {} gave no good answer: {}", context_.request_id, core_->options.name, detail);
  Push(std::move(batch));
  co_return status;
}

Task<> Call::Wanted() {
  while (!wanted_) co_await demand_.Wait();
}

void Call::Push(Batch events) {
  if (ended_ || events.empty()) return;
  std::move(events.begin(), events.end(), std::back_inserter(events_));
  wanted_ = false;
  news_.Notify();
}

void Call::Settle(const Status& status) {
  if (ended_) return;
  core_->Note(status);
  End(status);
}

void Call::End(Status status) {
  if (ended_) return;
  ended_ = true;
  end_ = std::move(status);
  news_.Notify();
}

std::string Call::Headers() const {
  std::string out;
  AppendHeader(out, "X-Request-Id", context_.request_id);
  AppendHeader(out, "traceparent", context_.traceparent);
  AppendHeader(out, "tracestate", context_.tracestate);
  return out;
}

}  // namespace cyllm::upstream
