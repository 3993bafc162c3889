// The scheduler with texts that repeat themselves.
#include <gtest/gtest.h>

#include <random>

#include "llama_cpp/fake_model.h"
#include "llama_cpp/scheduler.h"
#include "llama_cpp/scheduler_fixture.h"

namespace cyllm::llama {
namespace {

using testing::kEnd;
using testing::SchedulerTest;
using testing::TestRequest;

class SpeculationTest : public SchedulerTest {
 protected:
  // The answer is this text, whatever the prompt, which is one token.
  void Says(const std::string& text) {
    decoder_->next = [text](const std::vector<Token>& held) {
      return held.size() - 1 < text.size() ? static_cast<Token>(static_cast<uint8_t>(text[held.size() - 1]))
                                           : kEnd;
    };
  }
  size_t Steps() {
    const size_t before = decoder_->steps.size();
    RunAll();
    return decoder_->steps.size() - before;
  }
  size_t Widest() const {
    size_t out = 0;
    for (const auto& step : decoder_->steps) out = std::max(out, step.size());
    return out;
  }
  static std::string Verse() {
    std::string out;
    for (int i = 0; i < 5; ++i) out += "abcdefghijklmnopqrstuvwxyz0123456789";
    return out;
  }
};

TEST_F(SpeculationTest, ATextThatRepeatsItselfTakesFewerSteps) {
  Make(4, 16, 256);
  Says(Verse());
  Add(1, "?", 200);
  EXPECT_LT(Steps(), 100u);
  EXPECT_EQ(Text(1), Verse());
  EXPECT_GT(Widest(), 4u);
  const SchedulerStats stats = scheduler_->stats();
  EXPECT_EQ(stats.generated, 181u);  // with the end
  EXPECT_GT(stats.guessed_right, 80u);
  EXPECT_LE(stats.guessed_right, stats.guessed);
  EXPECT_EQ(gatherer_.Now(1).choices.at(0).text_events, 180u) << "each token is a piece of its own";
}

TEST_F(SpeculationTest, OffItTakesAStepForEachToken) {
  Make(4, 16, 256, {.speculation = false});
  Says(Verse());
  Add(1, "?", 200);
  EXPECT_EQ(Steps(), 181u);
  EXPECT_EQ(scheduler_->stats().guessed, 0u);
}

TEST_F(SpeculationTest, WithAModelThatCannotBeCutNothingIsGuessed) {
  copies_ = false;
  Make(4, 16, 256);
  Says(Verse());
  Add(1, "?", 200);
  EXPECT_EQ(Steps(), 181u);
}

TEST_F(SpeculationTest, OnlyWhoDecodesAlone) {
  Make(4, 16, 256);
  Says(Verse());
  Add(1, "?", 200);
  Add(2, "!", 200);
  EXPECT_GE(Steps(), 181u);
  EXPECT_EQ(Text(1), Verse());
  EXPECT_EQ(Text(2), Verse());
  EXPECT_EQ(Widest(), 2u);
}

TEST_F(SpeculationTest, AGuessThatFailsIsForgotten) {
  Make(4, 16, 256);
  std::string text = Verse();
  text[120] = '!';  // in the midst of a guess
  Says(text);
  Add(1, "?", 200);
  EXPECT_LT(Steps(), 110u);
  EXPECT_EQ(Text(1), text);
  EXPECT_LT(scheduler_->stats().guessed_right, scheduler_->stats().guessed);
}

TEST_F(SpeculationTest, EndsWhereItWouldEnd) {
  Make(4, 16, 256);
  Says(Verse());
  for (uint32_t n = 100; n < 110; ++n) {  // at each place of a guess
    Add(n, "?", n);
    RunAll();
    EXPECT_EQ(Text(n), Verse().substr(0, n));
    TestRequest stops(1000 + n);
    stops.Text("?").Stop({Verse().substr(0, n)}).request.max_tokens = 200;
    Add(stops);
    RunAll();
    EXPECT_EQ(Text(1000 + n), "");
    EXPECT_EQ(gatherer_.Now(1000 + n).choices.at(0).completion_tokens, n);
  }
}

TEST_F(SpeculationTest, EachTokenIsPaid) {
  Make(4, 16, 256);
  Says(Verse());
  TestRequest request(1);
  request.Text("?").request.max_tokens = 200;
  request.request.credit = 0;
  Add(request);
  std::mt19937 random(3);
  uint32_t paid = 0;
  while (!gatherer_.Now(1).ended) {
    const uint32_t more = 1 + random() % 12;
    paid += more;
    scheduler_->Credit(1, more);
    RunAll();
    ASSERT_LE(gatherer_.Now(1).choices[0].text_events, paid);
  }
  EXPECT_EQ(Text(1), Verse());
  EXPECT_LT(decoder_->steps.size(), 130u);
}

// Texts that repeat themselves for a while, and then do not.
TEST_F(SpeculationTest, EveryText) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
    std::string text;
    while (text.size() < 220) {
      if (text.size() > 10 && below(3) > 0) {
        const size_t from = below(static_cast<uint32_t>(text.size()));
        text += text.substr(from, 5 + below(40));
      } else {
        for (uint32_t n = 1 + below(12); n > 0; --n) text += static_cast<char>('a' + below(4));
      }
    }
    seats_ = below(2);
    Make(3, 16, 300);
    step_takes_ = std::chrono::milliseconds(1 + below(50));
    Says(text);
    const uint64_t id = seed * 10;
    TestRequest request(id + 1);
    request.Text("?").request.max_tokens = 1 + below(220);
    request.request.credit = below(2) > 0 ? 10000 : 1 + below(300);
    Add(request);
    for (uint32_t n = below(100); n > 0; --n) Step();
    Add(id + 2, "!", 1 + below(60));  // decodes with it for a while
    RunAll();
    scheduler_->Credit(id + 1, 10000);
    RunAll();
    ASSERT_EQ(Text(id + 1), text.substr(0, request.request.max_tokens)) << "seed " << seed;
    ASSERT_EQ(Text(id + 2), text.substr(0, Text(id + 2).size())) << "seed " << seed;
    ASSERT_TRUE(gatherer_.Now(id + 1).ended && gatherer_.Now(id + 2).ended) << "seed " << seed;
    ASSERT_EQ(scheduler_->stats().cells_used, 0u);
  }
}

}  // namespace
}  // namespace cyllm::llama
