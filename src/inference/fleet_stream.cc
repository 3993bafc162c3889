#include "inference/fleet_stream.h"

#include <algorithm>

#include "base/log.h"
#include "base/metrics.h"
#include "inference/resume.h"

namespace cyllm {
namespace {

// How long a worker that said `overloaded` is not asked for that model, unless something ends there before.
constexpr Millis kFullMin{50}, kFullMax{1'000};
// So long after something has ended there, it may not know it yet: a cancel is on its way.
constexpr Millis kVacating{1'000};
const uint32_t kMaxLost = ResumeOptions().max_losses;
constexpr Millis kLookAgain{500};  // while waiting: what wakes may have been missed

prometheus::Counter& Retries() {
  static auto& counter = Counter("fleet_retries_total",
                                 "Requests that failed before their first token and were tried elsewhere");
  return counter;
}
prometheus::Counter& Refusals() {
  static auto& counter = Counter("fleet_overloaded_total", "Times that a worker said overloaded");
  return counter;
}

// Deltas without ids are a token each.
template <class E>
size_t TokensOf(const E& event) {
  if constexpr (requires { event.token_ids; }) return std::max<size_t>(event.token_ids.size(), 1);
  return 0;
}

}  // namespace

FleetStream::~FleetStream() {
  if (inner_) {
    backend_->full.Clear();
    LeaveBackend(Verdict::kNone);
  }
  LeaveQueue();
}

Task<NextResult> FleetStream::Next(TimePoint wake_at) {
  NextResult result;
  while (true) {
    if (!inner_ && !ended_ && (!ticket_ || fleet_->queue_.TakeTurn(ticket_))) Start();
    if (ended_) {
      if (std::exchange(tell_tried_, false)) {
        result.what = NextResult::What::kEvents;
        result.events.push_back(HowFar());
        co_return result;
      }
      result.end = end_;
      co_return result;
    }
    if (!inner_) {  // waits in the queue
      if (!std::exchange(told_queued_, true)) {
        result.what = NextResult::What::kEvents;
        result.events.push_back(Progress{Progress::Phase::kQueued, -1, "waiting for a worker"});
        co_return result;
      }
      if (Clock::now() >= context_.deadline) {
        End(Unavailable("no worker became free in time", "overloaded",
                        std::max(Millis(1'000), fleet_->queue_.Estimate(model_, 0))));
        continue;
      }
      const TimePoint look_at = std::min(Clock::now() + kLookAgain, context_.deadline);
      if (!woken_) co_await ticket_->signal.Wait(std::min(wake_at, look_at));
      if (std::exchange(woken_, false) || Clock::now() >= wake_at) {
        result.what = NextResult::What::kTimeout;
        co_return result;
      }
      continue;
    }
    if (member_->ended) {
      Ended(member_->why);
      continue;
    }
    NextResult next = co_await inner_->Next(wake_at);
    if (next.what == NextResult::What::kEvents) {
      Note(next.events);
      if (next.events.empty()) continue;
      co_return next;
    }
    if (next.what == NextResult::What::kEnd) {
      Ended(std::move(next.end));
      continue;
    }
    if (member_->ended && !woken_) continue;
    woken_ = false;
    co_return next;
  }
}

void FleetStream::Wake() {
  woken_ = true;
  if (inner_) {
    inner_->Wake();
  } else if (ticket_) {
    ticket_->signal.Notify();
  }
}

void FleetStream::Start() {
  const std::shared_ptr<const Fleet::Table> table = fleet_->table();
  const TimePoint now = Clock::now();
  const bool must_wait =
      !ticket_ && request_.facts.resume.epoch == 0 && !picked_ && !fleet_->queue_.empty(model_);
  if (must_wait) return Park();
  Candidates found = FindCandidates(*table, request_.facts, tries_, now);
  if (found.views.empty()) {
    if (found.all_full || found.returning) return Park();
    return End(end_.ok() ? found.refusal : end_);  // else: what the last one that was tried said
  }
  Decision decision{0, "first", 0};
  const uint64_t turn = fleet_->turn_.fetch_add(1, std::memory_order_relaxed);
  if (fleet_->options_.picker) decision = fleet_->options_.picker->Pick(request_.facts, found.views, turn);
  const WorkerView& view = found.views[decision.chosen];
  Submit(table->rows[view.index], view, decision);
}

void FleetStream::Submit(const Fleet::Row& row, const WorkerView& view, const Decision& decision) {
  backend_ = row.backend;
  picked_ = true;
  context_length_ = view.context;
  worker_ = row.snapshot->name;
  further_.reset();
  runs_ = false;
  tries_.slots.push_back(backend_->slot);
  if (ticket_) queued_ = std::chrono::duration_cast<Millis>(Clock::now() - ticket_->since);
  receipt_ = {decision.policy, decision.prefix_hit, static_cast<double>(queued_.count()),
              receipt_.attempts + 1};
  if (Log()->should_log(spdlog::level::debug))
    Log()->debug("{} goes to {} ({})", context_.request_id, backend_->name, decision.policy);
  {
    MutexLock lock(backend_->mutex);
    probe_ = backend_->breaker.Send(Clock::now());
  }
  ++backend_->inflight;
  prefill_ = decision.prefill;
  backend_->prefill += prefill_;
  inner_ = backend_->service->Infer(request_, context_);
  member_ = backend_->streams.Join(context_.home, inner_.get());
  backend_->streams.Progress(Clock::now());
  if (woken_) inner_->Wake();
}

void FleetStream::Note(Batch& events) {
  backend_->streams.Progress(Clock::now());
  for (Event& event : events) {
    if (auto* tried = std::get_if<Tried>(&event)) further_ = std::move(*tried);
    if (auto* accepted = std::get_if<Accepted>(&event)) {
      accepted_ = runs_ = true;
      charge_ += accepted->prompt_tokens - std::min(accepted->cached_tokens, accepted->prompt_tokens);
      LeaveQueue();
      // Of the fleet that is nearest to the engine; the others only hand it on.
      if (accepted->route.attempts == 0) accepted->route = receipt_;
    }
    const bool finished = std::holds_alternative<Finished>(event);
    finished_ += finished;
    delivered_ |= finished || IsDelta(event);
    charge_ += std::visit([](const auto& e) { return TokensOf(e); }, event);
  }
  if (delivered_) PrefillDone();
  // Told with this fleet's end: another attempt may come first.
  std::erase_if(events, [](const Event& e) { return std::holds_alternative<Tried>(e); });
}

// Names are those of workers: what picks by no policy stands in front of other fleets.
Tried FleetStream::HowFar() const {
  if (further_) return *further_;
  return {fleet_->options_.picker ? worker_ : std::string(), receipt_};
}

void FleetStream::PrefillDone() { backend_->prefill -= std::exchange(prefill_, 0); }

void FleetStream::LeaveBackend(Verdict verdict) {
  PrefillDone();
  backend_->streams.Leave(member_);
  member_.reset();
  inner_.reset();
  --backend_->inflight;
  const TimePoint now = Clock::now();
  if (runs_) backend_->vacated = now.time_since_epoch().count();
  if (verdict == Verdict::kGood) ++backend_->served;
  if (verdict == Verdict::kBad) ++backend_->failed;
  {
    MutexLock lock(backend_->mutex);
    backend_->breaker.Ended(verdict, probe_, now);
    backend_->suspect = backend_->breaker.state(now) != Breaker::State::kClosed;
  }
  fleet_->queue_.Charge(request_.facts.tenant, std::exchange(charge_, 0));
  fleet_->queue_.Departed(model_, now, accepted_);
  backend_.reset();
}

void FleetStream::LeaveQueue() {
  if (!ticket_) return;
  fleet_->queue_.Leave(ticket_);
  ticket_.reset();
}

void FleetStream::End(Status status) {
  ended_ = true;
  end_ = std::move(status);
  tell_tried_ = !accepted_ && !end_.ok();
  if (ticket_)
    receipt_.queue_ms =
        static_cast<double>(std::chrono::duration_cast<Millis>(Clock::now() - ticket_->since).count());
  LeaveQueue();
}

void FleetStream::Ended(Status why) {
  const std::shared_ptr<Fleet::Backend> backend = backend_;
  // All that was asked for has come: how the connection ended is nobody's concern.
  if (finished_ >= request_.facts.choices) why = Status::Ok();
  const bool lost = why.reason == "connection_lost";
  Verdict verdict = Judge(why, delivered_);
  // Of a fleet that is there: it tells what happened to a worker of its own.
  const bool relayed = fleet_->options_.of_fleets && lost && backend->service->Describe().ready;
  if (relayed && verdict == Verdict::kBad) verdict = Verdict::kNone;
  if (why.reason != "overloaded") backend->full.Clear();  // a refusal makes no room
  LeaveBackend(verdict);
  end_ = std::move(why);
  if (end_.ok() || delivered_ || Clock::now() >= context_.deadline) return End(end_);
  if (end_.reason == "context_length_exceeded" && context_length_ > 0) {
    // Where there is a longer context, it may fit. With none, this error is what the client is told.
    tries_.too_short = std::max(tries_.too_short, context_length_);
    --receipt_.attempts;
    if (ticket_) fleet_->queue_.GiveTurnBack(ticket_);
    return;
  }
  if (!end_.retryable) return End(end_);
  if (lost && further_) {
    further_->route.attempts = lost_behind_ += further_->route.attempts;
    if (lost_behind_ >= kMaxLost) return End(end_);
  }
  // Resume, in front, counts the workers that a request takes down, and decides about each after the first
  // round; a fleet in front of fleets leaves all that had Accepted to it.
  const bool resumed = request_.facts.resume.epoch > 0;
  if (lost && (fleet_->options_.of_fleets ? accepted_ && relayed : resumed)) return End(end_);
  const bool parks = !fleet_->options_.of_fleets || resumed;
  const bool busy = backend->inflight + backend->reported > 0 ||
                    backend->vacated > (Clock::now() - kVacating).time_since_epoch().count();
  if (end_.reason == "overloaded" && parks && busy) {
    // A normal answer: elsewhere, or when something has ended there.
    const TimePoint now = Clock::now();
    backend->full.Set(model_, now, now + std::clamp(end_.retry_after, kFullMin, kFullMax));
    Refusals().Increment();
    tries_.slots.pop_back();
    --receipt_.attempts;
    if (ticket_) fleet_->queue_.GiveTurnBack(ticket_);
    return;
  }
  if (receipt_.attempts >= fleet_->options_.max_attempts) return End(end_);
  Retries().Increment();
  Log()->info("{} failed on {} before its first token, trying another: {}", context_.request_id,
              backend->name, end_.ToString());
  if (ticket_) fleet_->queue_.GiveTurnBack(ticket_);
}

void FleetStream::Park() {
  if (ticket_) return fleet_->queue_.NobodyTakes(ticket_, tries_.Hash());
  auto ticket = fleet_->queue_.Enter(model_, request_.facts, context_.home, Clock::now(), context_.deadline);
  if (!ticket) return End(ticket.error());
  ticket_ = std::move(*ticket);
}

}  // namespace cyllm
