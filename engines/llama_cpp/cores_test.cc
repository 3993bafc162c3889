#include "llama_cpp/cores.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace cyllm::llama {
namespace {

TEST(CoresTest, OneLaneAloneHasAllThreads) {
  Cores cores(4);
  EXPECT_EQ(cores.Enter(Cores::kDecode), 4u);
  cores.Leave(4);
  EXPECT_EQ(cores.Enter(Cores::kDecode), 4u);
  cores.Leave(4);
}

TEST(CoresTest, TwoLanesShareThem) {
  Cores cores(5);
  cores.Expect(Cores::kPrompts, true);
  EXPECT_EQ(cores.Enter(Cores::kDecode), 2u);
  EXPECT_EQ(cores.Enter(Cores::kPrompts), 3u);  // at the same time
  cores.Leave(3);
  cores.Expect(Cores::kPrompts, false);
  cores.Leave(2);
  EXPECT_EQ(cores.Enter(Cores::kDecode), 5u);
  cores.Leave(5);
}

TEST(CoresTest, OneCoreIsUsedInTurns) {
  Cores cores(1);
  cores.Expect(Cores::kPrompts, true);
  EXPECT_EQ(cores.Enter(Cores::kDecode), 1u);
  std::atomic<bool> entered = false;
  std::thread other([&] {
    EXPECT_EQ(cores.Enter(Cores::kPrompts), 1u);
    entered = true;
    cores.Leave(1);
  });
  EXPECT_FALSE(entered);
  cores.Leave(1);
  other.join();
  EXPECT_TRUE(entered);
}

// Never more threads than there are, and `lock` is alone; run it under TSan.
TEST(CoresTest, NeverTooMany) {
  Cores cores(3);
  std::atomic<uint32_t> used = 0, most = 0;
  const auto use = [&](uint32_t threads) {
    const uint32_t now = used += threads;
    for (uint32_t seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
    }
    used -= threads;
  };
  std::vector<std::thread> threads;
  for (const Cores::Lane lane : {Cores::kDecode, Cores::kPrompts}) {
    threads.emplace_back([&, lane] {
      for (int i = 0; i < 2000; ++i) {
        const uint32_t n = cores.Enter(lane);
        use(n);
        cores.Leave(n);
        if (i % 5 == 0) cores.Expect(lane, false);
      }
      cores.Expect(lane, false);
    });
  }
  threads.emplace_back([&] {
    for (int i = 0; i < 500; ++i) {
      std::lock_guard all(cores);
      EXPECT_EQ(used.load(), 0u);
      use(3);
    }
  });
  for (auto& thread : threads) thread.join();
  EXPECT_LE(most.load(), 3u);
}

}  // namespace
}  // namespace cyllm::llama
