// Mutexes that clang's -Wthread-safety understands (libstdc++'s carry no annotations).
#pragma once

#include <condition_variable>
#include <mutex>

#define CY_CAPABILITY(x) __attribute__((capability(x)))
#define CY_SCOPED_CAPABILITY __attribute__((scoped_lockable))
#define CY_GUARDED_BY(x) __attribute__((guarded_by(x)))
#define CY_REQUIRES(...) __attribute__((requires_capability(__VA_ARGS__)))
#define CY_EXCLUDES(...) __attribute__((locks_excluded(__VA_ARGS__)))
#define CY_ACQUIRE(...) __attribute__((acquire_capability(__VA_ARGS__)))
#define CY_RELEASE(...) __attribute__((release_capability(__VA_ARGS__)))

namespace cyllm {

class CY_CAPABILITY("mutex") Mutex {
 public:
  void lock() CY_ACQUIRE() { mutex_.lock(); }
  void unlock() CY_RELEASE() { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class CY_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) CY_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() CY_RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Wait with the mutex held; re-check the condition in a loop.
class CondVar {
 public:
  void Wait(Mutex& mutex) CY_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    cv_.wait(lock);
    lock.release();
  }
  template <class Clock, class Duration>
  bool WaitUntil(Mutex& mutex, std::chrono::time_point<Clock, Duration> until) CY_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const bool in_time = cv_.wait_until(lock, until) == std::cv_status::no_timeout;
    lock.release();
    return in_time;
  }
  void NotifyOne() { cv_.notify_one(); }
  void NotifyAll() { cv_.notify_all(); }

 private:
  std::condition_variable cv_;
};

}  // namespace cyllm
