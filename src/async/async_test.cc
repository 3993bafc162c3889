#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <functional>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "async/io_pool.h"
#include "async/scope.h"
#include "async/signal.h"
#include "async/time_limit.h"

namespace cyllm {
namespace {

TEST(Signal, ANotifyBeforeTheWaitIsNotLost) {
  IoPool pool(1);
  Signal signal(pool.At(0));
  signal.Notify();
  signal.Notify();
  bool first = false, second = true;
  pool.RunBlocking([](Signal& s, bool& a, bool& b) -> Task<> {
    a = co_await s.Wait();
    b = co_await s.Wait(Clock::now());  // both notifies were one
  }(signal, first, second));
  EXPECT_TRUE(first);
  EXPECT_FALSE(second);
}

TEST(Signal, WakesFromAnotherThread) {
  IoPool pool(1);
  for (int i = 0; i < 200; ++i) {
    Signal signal(pool.At(0));
    std::thread other([&] { signal.Notify(); });
    bool woken = false;
    pool.RunBlocking([](Signal& s, bool& w) -> Task<> { w = co_await s.Wait(); }(signal, woken));
    EXPECT_TRUE(woken);
    other.join();
  }
}

// What the first of them posts runs after all of them.
TEST(Signal, TogetherMakesAllWaitersOfAHomeReadyAtOnce) {
  constexpr int kWaiters = 8;
  IoPool pool(2);
  Scope scope;
  std::vector<std::unique_ptr<Signal>> signals;
  std::vector<int> woken(2), seen(2);  // by home
  std::promise<void> posted[2];
  for (int i = 0; i < 2 * kWaiters; ++i) {
    signals.push_back(std::make_unique<Signal>(pool.At(i % 2)));
    scope.Spawn(pool.At(i % 2), [](Signal& s, int& w, std::function<void()> first) -> Task<> {
      co_await s.Wait();
      if (++w == 1) Post(s.home(), first);
    }(*signals.back(), woken[i % 2], [&, home = i % 2] {
                  seen[home] = woken[home];
                  posted[home].set_value();
                }));
  }
  for (int home = 0; home < 2; ++home) {  // all wait
    std::promise<void> waiting;
    Post(pool.At(home), [&] { waiting.set_value(); });
    waiting.get_future().wait();
  }
  const auto notify = [&] {
    for (const auto& signal : signals) {
      signal->Notify();
      signal->Notify();
    }
  };
  Signal::Together([&] { Signal::Together(notify); });
  for (int home = 0; home < 2; ++home) {
    posted[home].get_future().wait();
    EXPECT_EQ(seen[home], kWaiters);
  }
  EXPECT_TRUE(scope.Join());
}

TEST(TimeLimit, StopsWhatHasNotComeInTime) {
  boost::asio::io_context io;
  TimeLimit limit(io.get_executor());
  int stopped = 0;
  const TimeLimit::Scope scope(limit, Clock::now(), [&] { ++stopped; });
  io.run();
  EXPECT_EQ(stopped, 1);
  EXPECT_TRUE(limit.passed());
  const TimeLimit::Scope never(limit, kNever, [&] { ++stopped; });
  EXPECT_FALSE(limit.passed());
  io.restart();
  EXPECT_EQ(io.run(), 0u);
}

// What was waited for comes in the same turn of the loop, in front of the timer's handler.
TEST(TimeLimit, AHandlerInTheQueueOutlivesIt) {
  boost::asio::io_context io;
  auto limit = std::make_unique<TimeLimit>(io.get_executor());
  int stopped = 0;
  auto scope = std::make_unique<TimeLimit::Scope>(*limit, Clock::now(), [&] { ++stopped; });
  boost::asio::steady_timer came(io, Clock::now() - std::chrono::seconds(1));
  came.async_wait([&](auto) {
    scope.reset();
    limit.reset();
  });
  io.run();
  EXPECT_EQ(stopped, 0);
}

TEST(Scope, JoinsItsTasksAndRefusesNewOnesWhenClosed) {
  IoPool pool(2);
  Scope scope;
  Signal go(pool.At(1));
  int done = 0;
  auto waits = [](Signal& s, int& d) -> Task<> {
    co_await s.Wait();
    ++d;
  };
  EXPECT_TRUE(scope.Spawn(pool.At(1), waits(go, done)));
  scope.Close();
  EXPECT_FALSE(scope.Spawn(pool.At(1), waits(go, done)));
  EXPECT_FALSE(scope.Join(Clock::now()));
  go.Notify();
  EXPECT_TRUE(scope.Join());
  EXPECT_EQ(done, 1);
}

TEST(Scope, SurvivesATaskThatThrows) {
  IoPool pool(1);
  Scope scope;
  scope.Spawn(pool.At(0), []() -> Task<> {
    throw std::runtime_error("on purpose");
    co_return;
  }());
  EXPECT_TRUE(scope.Join());
}

}  // namespace
}  // namespace cyllm
