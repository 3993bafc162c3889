#include "gateway/inference_call.h"

#include <fmt/format.h>

#include <random>

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

HttpResponse ToResponse(const openai::ApiError& error) {
  HttpResponse response;
  response.status = error.http;
  response.body = openai::Body(error);
  if (error.retry_after_s > 0)
    response.headers.emplace_back("Retry-After", fmt::format("{:.0f}", error.retry_after_s));
  if (!error.should_retry && error.http >= 500) response.headers.emplace_back("x-should-retry", "false");
  if (error.http == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

InferenceCall::InferenceCall(const GatewayOptions& options, InferenceService& service, HttpExchange& exchange)
    : options_(options), service_(service), exchange_(exchange) {}

Task<CallOutcome> InferenceCall::Run(openai::Call call, Context context) {
  openai::ResponseInfo info;
  info.id = fmt::format("{}-{:016x}{:016x}", call.kind == openai::Call::Kind::kChat ? "chatcmpl" : "cmpl",
                        Random()(), Random()());
  info.created =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  info.trace_id = Uuid();
  if (options_.request_timeout.count() > 0) deadline_ = After(start_, options_.request_timeout);
  context.deadline = deadline_;

  std::vector<EventStream> streams;
  for (size_t i = 0; i < call.requests.size(); ++i) {
    Request request = std::move(call.requests[i]);
    request.facts.response_id = info.id;
    // Other seeds for other prompts, as if each had been a call of its own.
    request.facts.seed = request.facts.seed ? *request.facts.seed : static_cast<int64_t>(Random()() >> 1);
    streams.push_back(service_.Infer(std::move(request), context));
  }
  const uint32_t n = call.n;
  stream_ = Merge(std::move(streams), n);
  exchange_.OnHangup([this] {
    gone_ = true;
    stream_->Wake();
  });
  if (call.stream) {
    co_await RunStream(call, std::move(info));
  } else {
    co_await RunWhole(call, std::move(info));
  }
  exchange_.OnHangup(nullptr);
  stream_.reset();
  if (gone_) {
    outcome_.end = MakeStatus(Code::kCancelled, "the client went away");
    if (outcome_.http == 0) outcome_.http = 499;
  }
  co_return std::move(outcome_);
}

Task<bool> InferenceCall::Pull(Batch& events, TimePoint wake_at) {
  events.clear();
  if (gone_) co_return false;
  NextResult next = co_await stream_->Next(std::min(wake_at, deadline_));
  if (gone_) co_return false;
  switch (next.what) {
    case NextResult::What::kEvents:
      SeeFirst(next.events);
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

Task<> InferenceCall::Refuse() {
  const openai::ApiError error = openai::FromStatus(outcome_.end);
  outcome_.http = error.http;
  exchange_.OnHangup(nullptr);
  if (!co_await exchange_.Respond(ToResponse(error))) gone_ = true;
}

Task<> InferenceCall::RunWhole(const openai::Call& call, openai::ResponseInfo info) {
  openai::BodyWriter writer(call, std::move(info));
  Batch events;
  while (co_await Pull(events, kNever)) {
    for (const Event& event : events) writer.Add(event);
  }
  outcome_.totals = writer.totals();
  if (gone_) co_return;
  if (!outcome_.end.ok()) {
    co_await Refuse();
    co_return;
  }
  outcome_.http = 200;
  HttpResponse response;
  response.body = writer.Body();
  exchange_.OnHangup(nullptr);  // a client that closes after the answer has not gone away
  if (!co_await exchange_.Respond(std::move(response))) gone_ = true;
}

Task<> InferenceCall::RunStream(const openai::Call& call, openai::ResponseInfo info) {
  // `accepted`, an error, or header_commit decide about the header: until then an error gets its own status.
  const TimePoint commit = After(start_, options_.header_commit);
  Batch events;
  bool accepted = false;
  while (!accepted && Clock::now() < commit) {
    if (!co_await Pull(events, commit)) {
      if (gone_) co_return;
      if (!outcome_.end.ok()) {
        co_await Refuse();
        co_return;
      }
      break;  // ended well without a word
    }
    std::erase_if(events, [](const Event& e) { return std::holds_alternative<Progress>(e); });
    accepted = !events.empty();
  }

  openai::ChunkWriter writer(call, std::move(info));
  HttpResponse head;
  head.content_type = "text/event-stream; charset=utf-8";
  head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  writer.Start(head.body);
  for (const Event& event : events) writer.Write(event, head.body);
  outcome_.http = 200;
  if (!co_await exchange_.StartStream(std::move(head))) gone_ = true;

  const bool pings = options_.sse_ping.count() > 0;
  std::string out;
  TimePoint ping_at = After(Clock::now(), options_.sse_ping);
  while (co_await Pull(events, pings ? ping_at : kNever)) {
    out.clear();
    for (const Event& event : events) writer.Write(event, out);
    // Progress is nothing that the client sees: a load that reports often is silent all the same.
    if (out.empty() && pings && Clock::now() >= ping_at) out = openai::kPing;
    if (out.empty()) continue;
    if (!co_await exchange_.Write(std::move(out))) gone_ = true;
    ping_at = After(Clock::now(), options_.sse_ping);
  }
  outcome_.totals = writer.totals();
  if (gone_) co_return;
  exchange_.OnHangup(nullptr);
  out.clear();
  if (outcome_.end.ok()) {
    writer.End(out);
  } else {
    out = "data: " + openai::Body(openai::FromStatus(outcome_.end)) + "\n\n";
  }
  if (!co_await exchange_.Write(std::move(out)) || !co_await exchange_.FinishStream()) gone_ = true;
}

}  // namespace cyllm
