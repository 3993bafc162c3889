#include "async/scope.h"

#include <boost/asio.hpp>
#include <cassert>

#include "base/log.h"
#include "base/mutex.h"

namespace cyllm {

namespace asio = boost::asio;

struct Scope::State {
  Mutex mutex;
  CondVar empty;
  size_t running CY_GUARDED_BY(mutex) = 0;
  bool closed CY_GUARDED_BY(mutex) = false;
};

Scope::Scope() : state_(std::make_shared<State>()) {}

Scope::~Scope() {
  Close();
  assert(size() == 0 && "Scope destroyed with running tasks");
}

bool Scope::Spawn(const Executor& executor, Task<> task) {
  {
    MutexLock lock(state_->mutex);
    if (state_->closed) return false;
    ++state_->running;
  }
  asio::co_spawn(executor, std::move(task), [state = state_](std::exception_ptr error) {
    if (error) {
      try {
        std::rethrow_exception(error);
      } catch (const std::exception& e) {
        Log()->error("task ended by exception: {}", e.what());
      }
    }
    MutexLock lock(state->mutex);
    if (--state->running == 0) state->empty.NotifyAll();
  });
  return true;
}

void Scope::Close() {
  MutexLock lock(state_->mutex);
  state_->closed = true;
}

size_t Scope::size() const {
  MutexLock lock(state_->mutex);
  return state_->running;
}

bool Scope::Join(TimePoint until) {
  MutexLock lock(state_->mutex);
  while (state_->running > 0) {
    if (until == kNever) {
      state_->empty.Wait(state_->mutex);
    } else if (!state_->empty.WaitUntil(state_->mutex, until)) {
      return state_->running == 0;
    }
  }
  return true;
}

}  // namespace cyllm
