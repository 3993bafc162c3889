// Grammars that take long to match.
#include <gtest/gtest.h>

#include <set>

#include "llama_cpp/grammar.h"
#include "llama_cpp/scheduler_fixture.h"

namespace cyllm::llama {
namespace {

using namespace std::chrono_literals;
using testing::SchedulerTest;
using testing::TestRequest;

// Of upper case letters; each that is chosen takes 100 ms, at least.
class SchedulerMatchingTest : public SchedulerTest {
 protected:
  SchedulerMatchingTest() {
    std::string error;
    auto spec = std::make_shared<ConstraintSpec>();
    spec->grammar = Grammar::Compile("root ::= [A-Z]+", &error);
    chat_.on_hold = [spec](const std::string& extra) { return extra == "letters" ? spec : nullptr; };
    vocabulary_.on_piece = [this](Token token) {
      if (token >= slow_from_ && token <= 'Z') now_ += 25ms;
    };
  }
  void AddLetters(uint64_t id, uint32_t n, uint32_t max_tokens, uint64_t credit = 100'000, int priority = 0) {
    TestRequest request(id);
    request.Text("A").extra = "letters";
    request.request.n = n;
    request.request.max_tokens = max_tokens;
    request.request.credit = credit;
    request.request.priority = priority;
    Add(request);
  }
  TimePoint::duration TimeOfStep() {
    const TimePoint begin = now_;
    EXPECT_TRUE(Step());
    return now_ - begin;
  }
  Token slow_from_ = 'A';
};

TEST_F(SchedulerMatchingTest, HoldUpOthersForOneOfThemAtATimeAndAQuarterOfTheTime) {
  Make(8, 512);
  Add(1, "a", 24);
  AddLetters(2, 4, 5);
  TimePoint::duration most{}, all{};
  size_t steps = 0;
  for (; !gatherer_.Now(1).ended; ++steps) {
    const auto took = TimeOfStep();
    most = std::max(most, took);
    if (steps >= 8) all += took;
  }
  EXPECT_EQ(Text(1), "bcdefghijklmnopqrstuvwxy");
  EXPECT_GT(most, 100ms) << "nothing was slow";
  EXPECT_LT(most, 250ms) << "two of them in one step";
  EXPECT_LT(steps, 40u) << "it missed steps";
  EXPECT_LT(all, 10ms * 16 * 2);
  RunAll();
  for (uint32_t choice = 0; choice < 4; ++choice) EXPECT_EQ(Text(2, choice), "BCDEF");
}

TEST_F(SchedulerMatchingTest, AloneTheyGoOn) {
  Make(4, 512);
  AddLetters(1, 4, 5);
  size_t steps = 0;
  while (!gatherer_.Now(1).ended && ++steps < 100) ASSERT_TRUE(Step());
  EXPECT_LT(steps, 40u);
  for (uint32_t choice = 0; choice < 4; ++choice) EXPECT_EQ(Text(1, choice), "BCDEF");
}

TEST_F(SchedulerMatchingTest, CheapOnesAreNotHeldWithThem) {
  Make(8, 512);
  slow_from_ = 'N';
  AddLetters(1, 1, 12);
  TestRequest dear(2);
  dear.Text("N").extra = "letters";
  dear.request.max_tokens = 10;
  Add(dear);
  // It is not known to be dear before its first token.
  while (Text(2).size() < 2) ASSERT_TRUE(Step());
  const size_t before = Text(1).size();
  ASSERT_LT(before, 6u);
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(Step());
  EXPECT_GE(Text(1).size(), before + 6);
  RunAll();
  EXPECT_EQ(Text(1), "BCDEFGHIJKLM");
  EXPECT_EQ(Text(2), "OPQRSTUVWX");
}

TEST_F(SchedulerMatchingTest, HeldOnesCanLeaveAtAnyTime) {
  for (int steps = 0; steps < 12; ++steps) {
    Make(4, 512);
    const uint64_t id = static_cast<uint64_t>(steps) * 2;
    Add(id + 1, "a", 20);
    AddLetters(id + 2, 3, 6);
    for (int i = 0; i < steps; ++i) Step();
    Cancel(id + 2);
    RunAll();
    EXPECT_TRUE(gatherer_.Now(id + 2).ended);
    EXPECT_EQ(Text(id + 1), "bcdefghijklmnopqrstu");
    EXPECT_EQ(scheduler_->stats().running, 0u);
  }
}

TEST_F(SchedulerMatchingTest, WhoLosesItsSequenceWhileItIsHeldSaysTheSame) {
  for (int steps = 1; steps < 12; ++steps) {
    Make(4, 512);
    const uint64_t id = static_cast<uint64_t>(steps) * 3;
    Add(id, "a", 20);
    AddLetters(id + 1, 3, 6, 100'000, 5);
    for (int i = 0; i < steps; ++i) Step();
    TestRequest urgent(id + 2);
    urgent.Text("kl").request.n = 3;
    urgent.request.max_tokens = 5;
    Add(urgent);
    RunAll();
    EXPECT_EQ(Text(id), "bcdefghijklmnopqrstu");
    for (uint32_t choice = 0; choice < 3; ++choice) {
      EXPECT_EQ(Text(id + 1, choice), "BCDEFG") << steps;
      EXPECT_EQ(Text(id + 2, choice), "mnopq") << steps;
    }
  }
}

TEST_F(SchedulerMatchingTest, WithLittleCreditTheyGoOnAsItComes) {
  Make(4, 512);
  AddLetters(1, 3, 4, 3);
  RunAll();
  EXPECT_FALSE(gatherer_.Now(1).ended);
  EXPECT_FALSE(Step()) << "it runs without end and does nothing";
  for (int i = 0; i < 40 && !gatherer_.Now(1).ended; ++i) {
    scheduler_->Credit(1, 1);
    RunAll();
  }
  for (uint32_t choice = 0; choice < 3; ++choice) EXPECT_EQ(Text(1, choice), "BCDE");
}

}  // namespace
}  // namespace cyllm::llama
