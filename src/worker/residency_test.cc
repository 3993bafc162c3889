#include "worker/residency.h"

#include <gtest/gtest.h>

#include <future>

namespace cyllm {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// A model that is unloaded at once, or when it is told to be idle.
class Model : public Resident {
 public:
  Model(Residency& residency, std::string id) : residency_(residency), id_(std::move(id)) {}
  const std::string& id() const override { return id_; }
  TimePoint last_used() override { return used; }
  bool UnloadIfIdle() override {
    if (busy) return false;
    Unload();
    return true;
  }
  void Unload() override {
    if (!loaded.exchange(false)) return;
    ++unloads;
    residency_.Left(this);
    if (comes_back.exchange(false)) EXPECT_TRUE(Load(0).ok());
  }
  Status Load(uint64_t bytes) {
    const Status status = residency_.Enter(this, bytes, [this] {
      asked = true;
      return wanted.load();
    });
    if (!status.ok()) return status;
    loaded = true;
    residency_.Loaded(this, 0);
    return status;
  }
  // Returns when it waits in line.
  std::future<Status> Begin(uint64_t bytes) {
    asked = false;
    auto load = std::async(std::launch::async, [this, bytes] { return Load(bytes); });
    while (!asked && load.wait_for(Millis(0)) == std::future_status::timeout) std::this_thread::yield();
    return load;
  }

  std::atomic<bool> loaded{false}, busy{false}, wanted{true}, asked{false};
  std::atomic<bool> comes_back{false};  // loaded again before who unloads it hears that it will leave
  std::atomic<int> unloads{0};
  std::atomic<TimePoint> used{TimePoint::min()};

 private:
  Residency& residency_;
  const std::string id_;
};

// Still waiting after many looks.
bool Waits(std::future<Status>& load) { return load.wait_for(Millis(150)) == std::future_status::timeout; }

TEST(Residency, TheOneNotUsedForLongestMakesRoom) {
  Residency residency({.budget_bytes = 100 * kMiB, .min_residency = Millis(0)});
  Model a(residency, "a"), b(residency, "b"), c(residency, "c"), d(residency, "d");
  ASSERT_TRUE(a.Load(40 * kMiB).ok());
  ASSERT_TRUE(b.Load(40 * kMiB).ok());
  a.used = Clock::now();
  EXPECT_TRUE(residency.HasRoom(&c, 20 * kMiB));
  EXPECT_FALSE(residency.HasRoom(&c, 40 * kMiB));
  ASSERT_TRUE(c.Load(40 * kMiB).ok());
  EXPECT_TRUE(a.loaded && !b.loaded && c.loaded);
  ASSERT_TRUE(d.Load(100 * kMiB).ok());  // one after the other
  EXPECT_TRUE(!a.loaded && !c.loaded && d.loaded);
  const Status never = a.Load(101 * kMiB);
  EXPECT_EQ(never.code, Code::kOk);  // it is known by now to take 40
  Model huge(residency, "huge");
  EXPECT_EQ(huge.Load(101 * kMiB).reason, "no_memory");
  EXPECT_TRUE(a.loaded);
}

TEST(Residency, NobodyLeavesBeforeItsTimeNorWhileItIsBusy) {
  Residency residency({.budget_bytes = 100 * kMiB, .min_residency = std::chrono::hours(1)});
  Model young(residency, "young"), next(residency, "next"), after(residency, "after");
  ASSERT_TRUE(young.Load(60 * kMiB).ok());
  auto load = next.Begin(60 * kMiB);
  EXPECT_TRUE(Waits(load));
  EXPECT_FALSE(residency.HasRoom(&after, kMiB));  // behind the one that waits
  auto behind = after.Begin(kMiB);
  EXPECT_TRUE(Waits(behind));
  young.Unload();
  EXPECT_TRUE(load.get().ok());
  EXPECT_TRUE(behind.get().ok());
  auto unwanted = young.Begin(60 * kMiB);
  EXPECT_TRUE(Waits(unwanted));
  young.wanted = false;
  EXPECT_EQ(unwanted.get().code, Code::kCancelled);
  EXPECT_TRUE(next.loaded);
}

TEST(Residency, WhoIsAlwaysBusyGivesWayInTheEnd) {
  Residency residency({.budget_bytes = 100 * kMiB, .min_residency = Millis(300)});
  Model busy(residency, "busy"), next(residency, "next");
  ASSERT_TRUE(busy.Load(60 * kMiB).ok());
  busy.busy = true;
  const TimePoint begin = Clock::now();
  EXPECT_TRUE(next.Load(60 * kMiB).ok());
  EXPECT_GE(Clock::now() - begin, Millis(300));
  EXPECT_FALSE(busy.loaded);
}

// Not even where nothing is asked for, or who waited for it would be told that it goes.
TEST(Residency, WhoIsBusyStaysForHalfASecond) {
  Residency residency({.budget_bytes = 100 * kMiB, .min_residency = Millis(0)});
  Model busy(residency, "busy"), next(residency, "next");
  ASSERT_TRUE(busy.Load(60 * kMiB).ok());
  busy.busy = true;
  const TimePoint begin = Clock::now();
  EXPECT_TRUE(next.Load(60 * kMiB).ok());
  EXPECT_GE(Clock::now() - begin, Millis(500));
  EXPECT_FALSE(busy.loaded);
}

TEST(Residency, LoadingToAndFroIsBounded) {
  Residency residency({.budget_bytes = 100 * kMiB, .min_residency = Millis(0), .reloads_per_minute = 2});
  Model a(residency, "a"), b(residency, "b"), fresh(residency, "fresh");
  for (Model* model : {&a, &b, &a, &b}) ASSERT_TRUE(model->Load(60 * kMiB).ok());
  EXPECT_FALSE(residency.HasRoom(&a, 0));
  auto load = a.Begin(60 * kMiB);
  EXPECT_TRUE(Waits(load));
  EXPECT_TRUE(b.loaded);
  a.wanted = false;
  EXPECT_FALSE(load.get().ok());
  EXPECT_TRUE(fresh.Load(60 * kMiB).ok());  // was never here
}

TEST(Residency, WhoWaitsForItsOwnPlaceHoldsUpNobody) {
  Residency residency({.budget_bytes = 100 * kMiB});
  Model leaving(residency, "leaving"), other(residency, "other");
  ASSERT_TRUE(leaving.Load(40 * kMiB).ok());
  auto again = leaving.Begin(40 * kMiB);
  EXPECT_TRUE(Waits(again));
  EXPECT_TRUE(residency.HasRoom(&other, 40 * kMiB));
  auto load = other.Begin(40 * kMiB);
  EXPECT_EQ(load.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  leaving.Unload();
  EXPECT_TRUE(again.get().ok());
  EXPECT_TRUE(load.get().ok());
}

TEST(Residency, WithoutABudgetNothingIsBounded) {
  Residency residency({.reloads_per_minute = 1});
  Model a(residency, "a");
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(a.Load(1'000 * kMiB).ok());
    a.Unload();
  }
}

TEST(Residency, UnusedModelsAreUnloaded) {
  Residency residency({});
  Model idle(residency, "idle"), other(residency, "other"), busy(residency, "busy");
  residency.UnloadWhenIdle(&idle, Millis(50));
  residency.UnloadWhenIdle(&busy, Millis(50));
  busy.busy = true;
  for (Model* model : {&idle, &other, &busy}) ASSERT_TRUE(model->Load(0).ok());
  const TimePoint until = Clock::now() + std::chrono::seconds(20);
  while (idle.loaded && Clock::now() < until) std::this_thread::sleep_for(Millis(5));
  EXPECT_FALSE(idle.loaded);
  EXPECT_TRUE(other.loaded && busy.loaded);
  residency.Stop();
}

TEST(Residency, WhoComesBackAtOnceIsUnloadedAgain) {
  Residency residency({});
  Model idle(residency, "idle");
  residency.UnloadWhenIdle(&idle, Millis(50));
  idle.comes_back = true;
  ASSERT_TRUE(idle.Load(0).ok());
  const TimePoint until = Clock::now() + std::chrono::seconds(20);
  while (idle.unloads < 2 && Clock::now() < until) std::this_thread::sleep_for(Millis(5));
  EXPECT_EQ(idle.unloads, 2);
  residency.Stop();
}

}  // namespace
}  // namespace cyllm
