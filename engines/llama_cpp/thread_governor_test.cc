#include "llama_cpp/thread_governor.h"

#include <gtest/gtest.h>

namespace cyllm::llama {
namespace {

using Seconds = ThreadGovernor::Seconds;

// Steps of 10 ms in which the threads miss `missing` cores; returns how many of the steps had all threads.
int Steps(ThreadGovernor& governor, uint32_t all, double missing, int steps) {
  int full = 0;
  for (int i = 0; i < steps; ++i) {
    const bool had_all = governor.threads() == all;
    full += had_all;
    const double cores = had_all ? all - missing : governor.threads();
    governor.Report(Seconds(0.01), Seconds(0.01 * cores));
  }
  return full;
}

TEST(ThreadGovernor, QuietMachineKeepsAllThreads) {
  ThreadGovernor governor(2);
  EXPECT_EQ(Steps(governor, 2, 0.05, 1000), 1000);
}

TEST(ThreadGovernor, ABusyNeighbourCostsOneThread) {
  ThreadGovernor governor(2);
  EXPECT_LE(Steps(governor, 2, 0.66, 10), 5);
  EXPECT_EQ(governor.threads(), 1u);
  EXPECT_LE(Steps(governor, 2, 0.66, 10000), 100);  // tried again, ever less often
}

TEST(ThreadGovernor, AllThreadsComeBack) {
  ThreadGovernor governor(4);
  Steps(governor, 4, 1.5, 10);
  EXPECT_EQ(governor.threads(), 2u);
  Steps(governor, 4, 0, 60);
  EXPECT_EQ(governor.threads(), 4u);
  EXPECT_EQ(Steps(governor, 4, 0, 1000), 1000);
}

TEST(ThreadGovernor, NeverFewerThanOne) {
  ThreadGovernor governor(2);
  Steps(governor, 2, 1.9, 10);
  EXPECT_EQ(governor.threads(), 1u);
  ThreadGovernor one(1);
  Steps(one, 1, 0.9, 100);
  EXPECT_EQ(one.threads(), 1u);
}

}  // namespace
}  // namespace cyllm::llama
