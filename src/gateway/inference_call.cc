#include "gateway/inference_call.h"

#include <fmt/format.h>

#include <random>

#include "gateway/error_response.h"
#include "gateway/merge.h"

namespace cyllm {

namespace {

std::mt19937_64& Random() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return random;
}

std::string Uuid() {
  const uint64_t a = Random()(), b = Random()();
  return fmt::format("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", a >> 32, (a >> 16) & 0xffff, a & 0xfff,
                     0x8000 | (b >> 50), b & 0xffffffffffff);
}

}  // namespace

InferenceCall::InferenceCall(const GatewayOptions& options, InferenceService& service, HttpExchange& exchange,
                             const dialect::Dialect& dialect)
    : options_(options), service_(service), exchange_(exchange), dialect_(dialect) {}

Task<CallOutcome> InferenceCall::Run(dialect::Call call, Context context) {
  dialect::ResponseInfo info;
  info.id = fmt::format("{}{:016x}{:016x}", call.id_prefix, Random()(), Random()());
  info.created =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  info.trace_id = Uuid();
  if (options_.request_timeout.count() > 0) deadline_ = After(start_, options_.request_timeout);
  context.deadline = deadline_;

  if (const RequestFacts& facts = call.requests.front().facts; facts.kind == Kind::kTokenize) {
    info.context_length = [this, model = facts.model]() -> uint32_t {
      const Snapshot snapshot = service_.Describe();
      const ModelInfo* found = snapshot.Find(model);
      return found ? found->max_model_len : 0;
    };
  }
  std::vector<EventStream> streams;
  for (Request& request : call.requests) {
    request.facts.response_id = info.id;
    // Other seeds for other prompts, as if each had been a call of its own.
    if (!request.facts.seed) request.facts.seed = static_cast<int64_t>(Random()() >> 1);
    streams.push_back(service_.Infer(std::move(request), context));
  }
  stream_ = Merge(std::move(streams), call.n);
  exchange_.OnHangup([this] {
    gone_ = true;
    stream_->Wake();
  });
  const std::unique_ptr<dialect::Writer> writer = call.writer(std::move(info));
  if (call.stream) {
    co_await RunStream(*writer);
  } else {
    co_await RunWhole(*writer);
  }
  exchange_.OnHangup(nullptr);
  stream_.reset();
  outcome_.prompt_tokens = std::max(tally_.prompt_tokens(), writer->totals().prompt_tokens);
  outcome_.completion_tokens = tally_.completion_tokens();
  if (gone_) {
    outcome_.end = MakeStatus(Code::kCancelled, "the client went away");
    if (outcome_.http == 0) outcome_.http = 499;
  }
  co_return std::move(outcome_);
}

void InferenceCall::EndWith(Status end) {
  ended_ = std::move(end);
  if (stream_) stream_->Wake();
}

Task<bool> InferenceCall::Pull(Batch& events, TimePoint wake_at) {
  events.clear();
  if (gone_) co_return false;
  if (ended_) {
    outcome_.end = *ended_;
    co_return false;
  }
  NextResult next = co_await stream_->Next(std::min(wake_at, deadline_));
  if (gone_) co_return false;
  switch (next.what) {
    case NextResult::What::kEvents:
      SeeFirst(next.events);
      outcome_.route.See(next.events);
      tally_.See(next.events);
      events = std::move(next.events);
      co_return true;
    case NextResult::What::kEnd:
      outcome_.end = std::move(next.end);
      co_return false;
    default:
      if (Clock::now() < deadline_) co_return true;
      outcome_.end = MakeStatus(Code::kDeadlineExceeded, "The request took too long.", "timeout");
      co_return false;
  }
}

void InferenceCall::SeeFirst(const Batch& events) {
  if (outcome_.ttft_s >= 0) return;
  for (const Event& event : events) {
    if (IsDelta(event)) {
      outcome_.ttft_s = std::chrono::duration<double>(Clock::now() - start_).count();
      return;
    }
  }
}

void InferenceCall::AddRoute(HttpResponse& response) const {
  if (std::string text = outcome_.route.Text(); !text.empty())
    response.headers.emplace_back(kRouteHeader, std::move(text));
}

// Of a stream whose header went out before anybody was asked: a comment, where the dialect has such.
std::string InferenceCall::LateRoute() {
  if (route_told_ || !dialect_.ping.starts_with(':')) return {};
  const std::string text = outcome_.route.Text();
  route_told_ = !text.empty();
  return text.empty() ? text : fmt::format(": {}: {}\n\n", kRouteHeader, text);
}

Task<> InferenceCall::Refuse() {
  HttpResponse response = ToResponse(dialect::FromStatus(outcome_.end), dialect_, exchange_.request().id);
  AddRoute(response);
  outcome_.http = response.status;
  exchange_.OnHangup(nullptr);
  if (!co_await exchange_.Respond(std::move(response))) gone_ = true;
}

Task<> InferenceCall::RunWhole(dialect::Writer& writer) {
  Batch events;
  HttpResponse response;
  writer.Start(response.body);
  while (co_await Pull(events, kNever)) {
    for (const Event& event : events) writer.Write(event, response.body);
  }
  if (gone_) co_return;
  if (!outcome_.end.ok()) {
    co_await Refuse();
    co_return;
  }
  outcome_.http = 200;
  writer.End(response.body);
  AddRoute(response);
  exchange_.OnHangup(nullptr);  // a client that closes after the answer has not gone away
  if (!co_await exchange_.Respond(std::move(response))) gone_ = true;
}

Task<> InferenceCall::RunStream(dialect::Writer& writer) {
  // `accepted`, an error, or header_commit decide about the header: until then an error gets its own status.
  const TimePoint commit = After(start_, options_.header_commit);
  Batch events;
  bool accepted = false;
  while (!accepted && Clock::now() < commit) {
    if (!co_await Pull(events, commit)) {
      if (gone_) co_return;
      if (!outcome_.end.ok() && !writer.TellsInStream(dialect::FromStatus(outcome_.end))) {
        co_await Refuse();
        co_return;
      }
      break;  // ended well without a word, or badly with one for the stream
    }
    std::erase_if(events, IsNote);
    accepted = !events.empty();
  }

  HttpResponse head;
  head.content_type = dialect_.stream_type;
  head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  AddRoute(head);
  route_told_ = !head.headers.empty() && head.headers.back().first == kRouteHeader;
  writer.Start(head.body);
  for (const Event& event : events) writer.Write(event, head.body);
  outcome_.http = 200;
  if (!co_await exchange_.StartStream(std::move(head))) gone_ = true;

  const bool pings = options_.sse_ping.count() > 0 && !dialect_.ping.empty();
  std::string out;
  TimePoint ping_at = After(Clock::now(), options_.sse_ping);
  while (co_await Pull(events, pings ? ping_at : kNever)) {
    out = LateRoute();
    for (const Event& event : events) writer.Write(event, out);
    // Progress is nothing that the client sees: a load that reports often is silent all the same.
    if (out.empty() && pings && Clock::now() >= ping_at) out = dialect_.ping;
    if (out.empty()) continue;
    if (!co_await exchange_.Write(std::move(out))) gone_ = true;
    ping_at = After(Clock::now(), options_.sse_ping);
  }
  if (gone_) co_return;
  exchange_.OnHangup(nullptr);
  out.clear();
  if (outcome_.end.ok()) {
    writer.End(out);
  } else {
    writer.Fail(dialect::FromStatus(outcome_.end), out);
  }
  if (!co_await exchange_.Write(std::move(out)) || !co_await exchange_.FinishStream()) gone_ = true;
}

}  // namespace cyllm
