// The models of one backend that it said `overloaded` of, and for how long it is not asked for them. Its
// other models are asked on. Thread-safe; costs a load where nothing is full.
#pragma once

#include <atomic>
#include <string>
#include <unordered_map>

#include "base/clock.h"
#include "base/mutex.h"

namespace cyllm {

class Fullness {
 public:
  void Set(const std::string& model, TimePoint now, TimePoint until) {
    MutexLock lock(mutex_);
    std::erase_if(until_, [&](const auto& entry) { return entry.second <= now; });
    until_[model] = until;
    any_ = true;
  }

  bool Has(const std::string& model, TimePoint now) const {
    if (!any_.load(std::memory_order_relaxed)) return false;
    MutexLock lock(mutex_);
    const auto it = until_.find(model);
    return it != until_.end() && it->second > now;
  }

  // Something ended there, and may have made room for any of them. False: there was none.
  bool Clear() {
    if (!any_.load(std::memory_order_relaxed)) return false;
    MutexLock lock(mutex_);
    until_.clear();
    return any_.exchange(false);
  }

 private:
  std::atomic<bool> any_{false};
  mutable Mutex mutex_;
  std::unordered_map<std::string, TimePoint> until_ CY_GUARDED_BY(mutex_);
};

}  // namespace cyllm
