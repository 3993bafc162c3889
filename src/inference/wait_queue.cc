#include "inference/wait_queue.h"

#include <algorithm>
#include <cmath>

#include "inference/prefix_hash.h"

namespace cyllm {
namespace {

constexpr double kNewest = 0.1;         // weight of the newest interval
constexpr size_t kMaxLines = 4'096;     // of models that somebody asked for
constexpr Millis kRetryUnknown{1'000};  // when nothing is known about the pace

// What FindCandidates tells workers by.
uint64_t Wants(const RequestFacts& facts) {
  const std::string text = facts.model + '\0' + facts.adapter + '\0' + facts.resume.digest + '\0' +
                           std::to_string(facts.needs) + (facts.resume.choices.empty() ? "" : "r");
  return Hash64(text);
}

}  // namespace

Result<std::shared_ptr<WaitQueue::Ticket>> WaitQueue::Enter(const std::string& model,
                                                            const RequestFacts& facts, Executor home,
                                                            TimePoint now, TimePoint deadline) {
  const uint64_t turn = options_.order ? options_.order->Turn(facts) : 0;
  MutexLock lock(mutex_);
  Line& line = lines_[model];
  const Rank rank{facts.resume.epoch == 0, facts.priority, turn, next_++};
  const auto before =
      static_cast<size_t>(std::distance(line.tickets.begin(), line.tickets.lower_bound(rank)));
  const Millis wait = EstimateOf(line, before);
  const Millis again = std::max(wait, kRetryUnknown);
  if (line.tickets.size() >= options_.max_waiting)
    return Err(Unavailable("too many requests wait for a worker", "overloaded", again));
  if (deadline != kNever && now + wait > deadline)
    return Err(
        Unavailable("the wait for a worker would outlast the request's deadline", "overloaded", again));
  auto ticket = std::make_shared<Ticket>(std::move(home), now);
  ticket->model = model;
  ticket->rank = rank;
  ticket->wants = Wants(facts);
  line.tickets.emplace(rank, ticket);
  return ticket;
}

void WaitQueue::Leave(const std::shared_ptr<Ticket>& ticket) {
  MutexLock lock(mutex_);
  Line& line = lines_[ticket->model];
  line.tickets.erase(ticket->rank);
  WakeFirst(line);
  if (line.tickets.empty() && lines_.size() > kMaxLines) lines_.erase(ticket->model);
}

bool WaitQueue::TakeTurn(const std::shared_ptr<Ticket>& ticket) {
  MutexLock lock(mutex_);
  Line& line = lines_[ticket->model];
  for (const auto& [rank, other] : line.tickets) {
    if (other == ticket) break;
    if (other->trying) continue;
    if (other->wants == ticket->wants || !line.nobody.contains(other->wants)) return false;
  }
  ticket->trying = true;
  ticket->tried_at = line.changes;
  return true;
}

void WaitQueue::GiveTurnBack(const std::shared_ptr<Ticket>& ticket) {
  MutexLock lock(mutex_);
  ticket->trying = false;
}

void WaitQueue::NobodyTakes(const std::shared_ptr<Ticket>& ticket, uint64_t besides) {
  MutexLock lock(mutex_);
  Line& line = lines_[ticket->model];
  ticket->trying = false;
  ticket->wants ^= std::exchange(ticket->besides, besides) ^ besides;
  if (ticket->tried_at == line.changes) line.nobody.insert(ticket->wants);
  WakeFirst(line);
}

void WaitQueue::Changed(Line& line) {
  ++line.changes;
  line.nobody.clear();
  WakeFirst(line);
}

void WaitQueue::WakeFirst(Line& line) {
  for (const auto& [rank, ticket] : line.tickets) {
    if (ticket->trying || line.nobody.contains(ticket->wants)) continue;
    ticket->signal.Notify();
    return;
  }
}

void WaitQueue::Departed(const std::string& model, TimePoint now, bool ran) {
  MutexLock lock(mutex_);
  const auto it = lines_.find(model);
  if (it == lines_.end()) return;  // nobody has ever waited
  Line& line = it->second;
  Changed(line);
  if (line.tickets.empty()) line.last_end = TimePoint::min();
  if (!ran || line.tickets.empty()) return;
  if (line.last_end != TimePoint::min()) {
    const double ms = std::chrono::duration<double, std::milli>(now - line.last_end).count();
    line.interval_ms += kNewest * (ms - line.interval_ms);
  }
  line.last_end = now;
}

void WaitQueue::WakeAll() {
  MutexLock lock(mutex_);
  for (auto& [model, line] : lines_) Changed(line);
}

bool WaitQueue::empty(const std::string& model) const { return waiting(model) == 0; }

size_t WaitQueue::waiting(const std::string& model) const {
  MutexLock lock(mutex_);
  const auto it = lines_.find(model);
  return it == lines_.end() ? 0 : it->second.tickets.size();
}

size_t WaitQueue::waiting() const {
  MutexLock lock(mutex_);
  size_t sum = 0;
  for (const auto& [model, line] : lines_) sum += line.tickets.size();
  return sum;
}

Millis WaitQueue::Estimate(const std::string& model, size_t position) const {
  MutexLock lock(mutex_);
  const auto it = lines_.find(model);
  return it == lines_.end() ? Millis(0) : EstimateOf(it->second, position);
}

Millis WaitQueue::EstimateOf(const Line& line, size_t position) const {
  return Millis(std::llround(line.interval_ms * static_cast<double>(position + 1)));
}

}  // namespace cyllm
