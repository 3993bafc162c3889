#include "inference/wait_queue.h"

#include <algorithm>
#include <cmath>

namespace cyllm {
namespace {

constexpr double kNewest = 0.1;         // weight of the newest interval
constexpr size_t kMaxLines = 4'096;     // of models that somebody asked for
constexpr Millis kRetryUnknown{1'000};  // when nothing is known about the pace

}  // namespace

Result<std::shared_ptr<WaitQueue::Ticket>> WaitQueue::Enter(const RequestFacts& facts, Executor home,
                                                            TimePoint now, TimePoint deadline) {
  MutexLock lock(mutex_);
  Line& line = lines_[facts.model];
  const std::tuple<bool, int32_t, uint64_t> rank{facts.resume.epoch == 0, facts.priority, next_++};
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
  ticket->model = facts.model;
  ticket->rank = rank;
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
  for (const auto& [rank, other] : lines_[ticket->model].tickets) {
    if (other == ticket) break;
    if (!other->trying) return false;
  }
  ticket->trying = true;
  return true;
}

void WaitQueue::GiveTurnBack(const std::shared_ptr<Ticket>& ticket) {
  MutexLock lock(mutex_);
  ticket->trying = false;
}

void WaitQueue::WakeFirst(Line& line) {
  for (const auto& [rank, ticket] : line.tickets) {
    if (ticket->trying) continue;
    ticket->signal.Notify();
    return;
  }
}

void WaitQueue::Departed(const std::string& model, TimePoint now, bool ran) {
  MutexLock lock(mutex_);
  const auto it = lines_.find(model);
  if (it == lines_.end()) return;  // nobody has ever waited
  Line& line = it->second;
  WakeFirst(line);
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
  for (auto& [model, line] : lines_) WakeFirst(line);
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
