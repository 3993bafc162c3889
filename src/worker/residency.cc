#include "worker/residency.h"

#include <algorithm>

#include "base/log.h"

namespace cyllm {
namespace {

constexpr Millis kLookAgain{20}, kLookIdle{500};
// A busy model stays for so long at least: whoever waited for it gets in (starting_stream.cc looks every 100
// ms).
constexpr Millis kLetIn{500};
constexpr Millis kMinute{60'000};
constexpr double kMiB = 1 << 20;

}  // namespace

void Residency::Stop() {
  {
    MutexLock lock(mutex_);
    over_ = true;
  }
  changed_.NotifyAll();
  if (watch_.joinable()) watch_.join();
}

Status Residency::Enter(Resident* model, uint64_t bytes, const std::function<bool()>& wanted) {
  const TimePoint came = Clock::now();
  {
    MutexLock lock(mutex_);
    bytes = Need(model, bytes);
    if (options_.budget_bytes > 0 && bytes > options_.budget_bytes) {
      return MakeStatus(Code::kResourceExhausted,
                        "the model needs " + std::to_string(static_cast<uint64_t>(bytes / kMiB)) +
                            " MiB, and worker.memory_budget_mib allows " +
                            std::to_string(static_cast<uint64_t>(options_.budget_bytes / kMiB)),
                        "no_memory");
    }
    line_.push_back(model);
  }
  while (true) {
    const bool still_wanted = wanted();
    const TimePoint now = Clock::now();
    std::vector<Resident*> victims, busy;
    {
      MutexLock lock(mutex_);
      const bool turn = still_wanted && NextInLine(now) == model;
      const bool begun = turn && Begin(model, bytes, now);
      if (begun || !still_wanted) {
        std::erase(line_, model);
        changed_.NotifyAll();
        return begun ? Status::Ok() : MakeStatus(Code::kCancelled, "nobody waits for the model any more");
      }
      if (turn && Used(false) + bytes > options_.budget_bytes) {
        victims = MayLeave(now, options_.min_residency);
        const Millis patience = std::max(options_.min_residency, kLetIn);
        if (now - came >= patience) busy = MayLeave(now, patience);
      }
      if (victims.empty()) changed_.WaitUntil(mutex_, now + kLookAgain);
    }
    if (victims.empty()) continue;
    SendAway(victims, busy);
    MutexLock lock(mutex_);
    changed_.WaitUntil(mutex_, now + kLookAgain);
  }
}

uint64_t Residency::Need(const Resident* model, uint64_t estimate) const {
  const auto before = loaded_before_.find(model);
  return before != loaded_before_.end() && before->second > 0 ? before->second : estimate;
}

uint64_t Residency::Used(bool with_leaving) const {
  uint64_t sum = 0;
  for (const auto& [model, place] : places_)
    if (with_leaving || !place.leaves) sum += place.bytes;
  return sum;
}

bool Residency::MayLoad(const Resident* model, TimePoint now) const {
  const bool bounded = options_.budget_bytes > 0 || idle_.contains(model);
  if (!bounded || options_.reloads_per_minute == 0 || !loaded_before_.contains(model)) return true;
  return std::ranges::count_if(reloads_, [&](TimePoint at) { return now - at < kMinute; }) <
         options_.reloads_per_minute;
}

Resident* Residency::NextInLine(TimePoint now) const {
  for (Resident* model : line_)
    if (!places_.contains(model) && MayLoad(model, now)) return model;
  return nullptr;
}

bool Residency::Begin(Resident* model, uint64_t bytes, TimePoint now) {
  if (options_.budget_bytes > 0 && Used(true) + bytes > options_.budget_bytes) return false;
  places_[model].bytes = bytes;
  if (loaded_before_.contains(model)) {
    reloads_.push_back(now);
    if (reloads_.size() > options_.reloads_per_minute) reloads_.pop_front();
  }
  return true;
}

std::vector<Resident*> Residency::MayLeave(TimePoint now, Millis after) const {
  std::vector<Resident*> models;
  for (const auto& [model, place] : places_)
    if (!place.leaves && place.since != kNever && now - place.since >= after) models.push_back(model);
  return models;
}

TimePoint Residency::MarkLeaving(Resident* model) {
  MutexLock lock(mutex_);
  const auto place = places_.find(model);
  if (place == places_.end() || place->second.leaves || place->second.since == kNever) return kNever;
  place->second.leaves = true;
  return place->second.since;
}

bool Residency::SendAwayIfIdle(Resident* model) {
  const TimePoint since = MarkLeaving(model);
  if (since == kNever || model->UnloadIfIdle()) return true;
  MutexLock lock(mutex_);
  const auto place = places_.find(model);
  if (place != places_.end() && place->second.since == since) place->second.leaves = false;
  return false;
}

// The one that was not used for longest, of `models` one that is idle, else of `busy`.
void Residency::SendAway(const std::vector<Resident*>& models, const std::vector<Resident*>& busy) {
  std::vector<std::pair<TimePoint, Resident*>> order;
  for (Resident* model : models) order.emplace_back(model->last_used(), model);
  std::ranges::sort(order);
  auto gone = std::ranges::find_if(order, [&](const auto& entry) { return SendAwayIfIdle(entry.second); });
  if (gone == order.end()) {
    gone = std::ranges::find_if(order, [&](const auto& e) { return std::ranges::count(busy, e.second) > 0; });
    if (gone == order.end()) return;
    if (MarkLeaving(gone->second) == kNever) return;
    gone->second->Unload();
  }
  Log()->info("model '{}' makes room for another", gone->second->id());
}

void Residency::Loaded(Resident* model, uint64_t bytes) {
  MutexLock lock(mutex_);
  Place& place = places_[model];
  if (bytes > 0) place.bytes = bytes;
  place.since = Clock::now();
  loaded_before_[model] = place.bytes;
  if (options_.budget_bytes > 0 && Used(true) > options_.budget_bytes)
    Log()->warn("model '{}' takes {:.0f} MiB, more than was expected: the models take {:.0f} MiB of {:.0f}",
                model->id(), static_cast<double>(place.bytes) / kMiB, static_cast<double>(Used(true)) / kMiB,
                static_cast<double>(options_.budget_bytes) / kMiB);
  changed_.NotifyAll();
}

void Residency::Left(Resident* model) {
  MutexLock lock(mutex_);
  places_.erase(model);
  changed_.NotifyAll();
}

bool Residency::HasRoom(const Resident* model, uint64_t bytes) const {
  MutexLock lock(mutex_);
  const TimePoint now = Clock::now();
  if (NextInLine(now) || !MayLoad(model, now)) return false;
  return options_.budget_bytes == 0 || Used(true) + Need(model, bytes) <= options_.budget_bytes;
}

void Residency::UnloadWhenIdle(Resident* model, Millis idle) {
  MutexLock lock(mutex_);
  idle_[model] = idle;
  if (!watch_.joinable()) watch_ = std::thread([this] { WatchIdle(); });
}

void Residency::WatchIdle() {
  while (true) {
    Millis look = kLookIdle;
    std::vector<std::pair<Resident*, Millis>> watched;
    {
      MutexLock lock(mutex_);
      if (over_) return;
      for (const auto& [model, idle] : idle_) {
        look = std::min(look, std::max(idle / 4, kLookAgain));
        const auto place = places_.find(model);
        if (place != places_.end() && !place->second.leaves && place->second.since <= Clock::now() - idle)
          watched.emplace_back(model, idle);
      }
    }
    for (const auto& [model, idle] : watched) {
      if (model->last_used() > Clock::now() - idle || !SendAwayIfIdle(model)) continue;
      Log()->info("model '{}': unused for {} ms, unloaded", model->id(), idle.count());
    }
    MutexLock lock(mutex_);
    if (over_) return;
    changed_.WaitUntil(mutex_, Clock::now() + look);
  }
}

}  // namespace cyllm
