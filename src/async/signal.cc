#include "async/signal.h"

#include <algorithm>
#include <atomic>
#include <boost/asio.hpp>
#include <iterator>
#include <utility>

namespace cyllm {

namespace asio = boost::asio;

struct Signal::State {
  explicit State(Executor executor) : home(std::move(executor)), timer(home) {}
  Executor home;
  asio::steady_timer timer;  // on home only
  std::atomic<bool> set{false};
};

thread_local Signal::Gathering* Signal::Gathering::current = nullptr;

Signal::Signal(Executor home) : state_(std::make_shared<State>(std::move(home))) {}

const Executor& Signal::home() const { return state_->home; }

void Signal::Notify() {
  if (state_->set.exchange(true, std::memory_order_acq_rel)) return;
  if (Gathering::current) return Gathering::current->states_.push_back(state_);
  asio::post(state_->home, [state = state_] { state->timer.cancel(); });
}

Signal::Gathering::Gathering() {
  if (!current) current = this;
}

Signal::Gathering::~Gathering() {
  if (current != this) return;
  current = nullptr;
  while (!states_.empty()) {
    const Executor home = states_.front()->home;
    const auto here = [&](const auto& state) { return state->home == home; };
    std::vector<std::shared_ptr<State>> same;
    std::ranges::copy_if(states_, std::back_inserter(same), here);
    std::erase_if(states_, here);
    asio::post(home, [same = std::move(same)] {
      for (const auto& state : same) state->timer.cancel();
    });
  }
}

Task<bool> Signal::Wait(TimePoint wake_at) {
  auto state = state_;  // survives this Signal's end
  while (true) {
    if (state->set.exchange(false, std::memory_order_acq_rel)) co_return true;
    if (wake_at != kNever && Clock::now() >= wake_at) co_return false;
    // A cancel posted for a notification that was already consumed ends this wait early: the loop looks
    // again.
    state->timer.expires_at(wake_at);
    co_await state->timer.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

Task<> SleepUntil(TimePoint at) {
  asio::steady_timer timer(co_await asio::this_coro::executor, at);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

}  // namespace cyllm
