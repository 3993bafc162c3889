// Requests of several adapters in one context.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "llama_cpp/fake_model.h"
#include "llama_cpp/scheduler.h"
#include "llama_cpp/scheduler_fixture.h"

namespace cyllm::llama {
namespace {

using std::chrono::milliseconds;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::SchedulerTest;
using testing::TestRequest;

// The fake decoder checks that what a sequence holds was computed with one adapter.
class AdapterTest : public SchedulerTest {
 protected:
  AdapterTest() { adapters_ = {"cook", "poet"}; }
  const std::vector<uint32_t>& had() const { return decoder_->step_adapters; }
  size_t Rows() const { return decoder_->steps.back().size(); }
};

TEST_F(AdapterTest, StepsAreOfOneAdapterInTurns) {
  Make(4, 32);
  step_takes_ = milliseconds(60);  // longer than half of the target
  Add(1, "a", 3, "poet");
  Add(2, "b", 3);
  Add(3, "c", 3, "cook");
  Add(4, "d", 3, "poet");
  RunAll();
  EXPECT_EQ(Text(1), "bcd");
  EXPECT_EQ(Text(2), "cde");
  EXPECT_EQ(Text(3), "def");
  EXPECT_EQ(Text(4), "efg");
  EXPECT_THAT(had(), ElementsAre(1, 2, 0, 1, 2, 0, 1, 2, 0));
  EXPECT_EQ(decoder_->steps[1].size(), 2u);
}

TEST_F(AdapterTest, OneAdapterAloneIsSetOnce) {
  Make(4, 32);
  for (uint64_t id = 1; id <= 3; ++id) Add(id, "a", 10, "cook");
  RunAll();
  EXPECT_THAT(had(), Each(1));
  EXPECT_EQ(decoder_->changes, 1u);
  EXPECT_EQ(had().size(), 10u);
}

TEST_F(AdapterTest, WithoutAdaptersNothingIsSet) {
  Make(4, 32);
  for (uint64_t id = 1; id <= 3; ++id) Add(id, "a", 10);
  RunAll();
  EXPECT_EQ(decoder_->changes, 0u);
}

// A long prompt of one adapter, in many steps, and who decodes with another.
TEST_F(AdapterTest, NobodyStarvesBesideALongPrompt) {
  Make(4, 32, 4096);
  step_takes_ = milliseconds(120);
  Add(1, "a", 20);
  Step();
  Add(2, std::string(2000, 'm'), 3, "poet");
  Add(3, "a", 20, "cook");
  uint32_t since[3] = {};
  while (!gatherer_.Now(1).ended) {
    Step();
    for (uint32_t a = 0; a < 3; ++a) since[a] = had().back() == a ? 0 : since[a] + 1;
    EXPECT_LE(std::max({since[0], since[1], since[2]}), 2u);
  }
  RunAll();
  EXPECT_EQ(Text(2), "nop");
  EXPECT_EQ(Text(3), "bcdefghijklmnopqrstu");
}

// Prompts and tokens of an adapter alternate although it has one step at a time.
TEST_F(AdapterTest, NorItsOwnTokens) {
  Make(4, 16, 4096);
  step_takes_ = milliseconds(120);
  Add(1, "a", 60, "poet");
  Add(2, "a", 60);
  for (int i = 0; i < 4; ++i) Step();
  Add(3, std::string(400, 'm'), 3, "poet");
  const size_t before = Text(1).size();
  for (int i = 0; i < 16; ++i) Step();
  EXPECT_GE(Text(1).size(), before + 3);
  EXPECT_LE(Text(1).size(), before + 5);
}

TEST_F(AdapterTest, WhoCannotGoOnHoldsNobodyUp) {
  Make(4, 32);
  TestRequest stalled(1);
  stalled.Text("a").Adapter("poet").request.credit = 2;
  Add(stalled);
  Add(2, "a", 6);
  RunAll();
  EXPECT_EQ(Text(1), "bc");
  EXPECT_EQ(Text(2), "bcdefg");
}

TEST_F(AdapterTest, PrefixesAreNotShared) {
  spare_ = 2;
  Make(4, 512, 256);
  const std::string system(100, 's');
  const auto cached = [&](uint64_t id) { return gatherer_.Now(id).choices[0].cached_tokens; };
  Add(1, system + "a", 3);
  RunAll();
  Add(2, system + "b", 3, "poet");
  RunAll();
  Add(3, system + "c", 3, "poet");
  Add(4, system + "d", 3, "cook");
  Add(5, system + "e", 3);
  RunAll();
  EXPECT_EQ(cached(2), 0u);
  EXPECT_EQ(cached(3), 100u);
  EXPECT_EQ(cached(4), 0u);
  EXPECT_EQ(cached(5), 100u);
}

// Equal beginnings are computed once for an adapter, and nobody waits for those of another.
TEST_F(AdapterTest, OnlyEqualsWaitForAPrefix) {
  Make(4, 16, 256);
  const std::string system(100, 's');
  Add(1, system + "a", 3);
  Add(2, system + "b", 3, "poet");
  Add(3, system + "c", 3, "poet");
  scheduler_->Plan();
  EXPECT_EQ(scheduler_->stats().running, 2u);
  RunAll();
  EXPECT_EQ(gatherer_.Now(3).choices[0].cached_tokens, 100u);
  EXPECT_EQ(scheduler_->stats().prefilled, 203u);
}

// A prompt between two that decode takes a token with them only where it is of their adapter.
TEST_F(AdapterTest, GapsAreFilledWithTheirOwn) {
  Make(3, 8, 256);
  step_takes_ = milliseconds(60);
  Add(1, "a", 20);
  Add(2, "m", 1);
  Add(3, "c", 20);
  while (!gatherer_.Now(2).ended) Step();
  Add(4, std::string(100, 'm'), 3, "poet");
  Step();
  Step();
  EXPECT_EQ(decoder_->held(1), std::vector<Token>(8, 'm'));
  RunAll();
  EXPECT_EQ(Text(1), "bcdefghijklmnopqrstu");
  EXPECT_EQ(Text(3), "defghijklmnopqrstuvw");
  EXPECT_EQ(Text(4), "nop");
}

TEST_F(AdapterTest, PreemptedItGoesOnWithItsOwn) {
  Make(1, 32, 256);
  TestRequest patient(1);
  patient.Text("a").Adapter("poet").request.priority = 5;
  patient.request.max_tokens = 10;
  Add(patient);
  for (int i = 0; i < 4; ++i) Step();
  Add(2, "m", 2, "cook");
  RunAll();
  EXPECT_EQ(Text(1), "bcdefghijk");
  EXPECT_EQ(Text(2), "no");
  EXPECT_EQ(scheduler_->stats().preemptions, 1u);
}

TEST_F(AdapterTest, TheLaneComputesWithThem) {
  seats_ = 2;
  step_takes_ = milliseconds(10);
  SchedulerOptions options;
  options.target_itl = milliseconds(15);  // no room for a tile: all go there
  Make(4, 512, 256, options);
  Add(1, "a", 20);
  Step();
  const std::string system(100, 'm');
  Add(2, system, 3, "poet");
  Add(3, system, 3);
  Add(4, system, 3, "cook");
  RunAll();
  EXPECT_EQ(Text(2), "nop");
  EXPECT_EQ(Text(3), "nop");
  EXPECT_EQ(Text(4), "nop");
  EXPECT_THAT(prompts_->step_adapters, ::testing::IsSupersetOf({0, 2}));
}

// Alone in its steps, if not in the engine.
TEST_F(AdapterTest, GuessesAreMadeWithAnyAdapter) {
  Make(4, 512, 1024);
  decoder_->next = [](const std::vector<Token>& held) { return held[held.size() - 6]; };
  step_takes_ = milliseconds(60);
  Add(1, "abcdefabcdef", 60, "poet");
  Add(2, "uvwxyzuvwxyz", 60);
  RunAll();
  std::string expected[2];
  for (int i = 0; i < 10; ++i) {
    expected[0] += "abcdef";
    expected[1] += "uvwxyz";
  }
  EXPECT_EQ(Text(1), expected[0]);
  EXPECT_EQ(Text(2), expected[1]);
  EXPECT_GT(scheduler_->stats().guessed_right, 0u);
}

}  // namespace
}  // namespace cyllm::llama
