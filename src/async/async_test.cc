#include <gtest/gtest.h>

#include <thread>

#include "async/io_pool.h"
#include "async/scope.h"
#include "async/signal.h"

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
