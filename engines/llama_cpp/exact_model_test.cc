// The real model, when CY_TEST_MODEL names its file: what does not change a single bit of an answer
// (README.md, Equal texts).
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <string>

#include "llama_cpp/exact_fixture.h"
#include "llama_cpp/plain_loop.h"

namespace cyllm::llama {
namespace {

using testing::ChoiceResult;
using testing::ExactTest;
using testing::kNoCache;
using testing::PlainLoop;
using testing::Result;
using testing::TestRequest;

TEST_F(ExactTest, AloneEqualsThePlainLoop) {
  options_.threads = 1;
  Load();
  Start(kNoCache, false);
  for (const size_t prompt : {1u, 63u, 64u, 127u, 200u}) {
    const auto request = Prompt(prompt, 12);
    request->sampling.ignore_eos = 0;
    const ChoiceResult got = Ask(*request);
    EXPECT_EQ(got.tokens, PlainLoop(*model_, *request).tokens) << prompt;
  }
}

TEST_F(ExactTest, TakenOverEqualsUndisturbed) {
  options_.threads = 1;
  Load();
  Start(kNoCache, false);
  constexpr uint32_t kAnswer = 90;
  for (const size_t prompt : {40u, 180u}) {
    const auto whole = Prompt(prompt, kAnswer);
    const ChoiceResult expected = Ask(*whole);
    ASSERT_EQ(expected.tokens.size(), kAnswer);
    const std::vector<Result> cuts = gatherer_.Cuts(whole->request.id);
    for (const size_t cut : {1u, 75u}) {
      const auto rest = Prompt(prompt, kAnswer);
      rest->Resume(cuts[cut]);
      gatherer_.Before(rest->request.id, cuts[cut]);
      ExpectSame(Ask(*rest), expected, std::to_string(prompt) + " tokens, cut at " + std::to_string(cut));
    }
  }
}

TEST_F(ExactTest, PreemptedEqualsUndisturbed) {
  options_.threads = 1;
  options_.max_num_seqs = 1;
  Load();
  Start(kNoCache, false);  // what it had is computed again: the prompt, and what was said since
  const auto undisturbed = Prompt(90, 80);
  const ChoiceResult expected = Ask(*undisturbed);
  const auto patient = Prompt(90, 80), urgent = Prompt(20, 2);
  patient->request.priority = 5;
  patient->request.credit = 70;  // stands still there until the other has had its turn
  Submit(*patient);
  gatherer_.WaitText(patient->request.id, 70);
  Submit(*urgent);
  Wait(*urgent);
  engine_->Credit(patient->request.id, 1000);
  ExpectSame(Wait(*patient), expected, "preempted");
  EXPECT_EQ(engine_->Stats().preemptions, 1u);
}

// Chunk takes kTileRows - 1 more than there is room for rather than leave them.
TEST_F(ExactTest, AStepMayBeSoMuchLongerThanAChunk) {
  for (const char* dtype : {"f16", "q8_0"}) {
    options_.kv_cache_dtype = dtype;
    options_.max_num_seqs = 2;
    options_.prefill_chunk = 200;
    Load();
    std::vector<Row> rows;
    for (uint32_t i = 0; i < 136; ++i) rows.push_back({0, i, text_[i], i + 1 == 136});
    for (uint32_t i = 0; i < 127; ++i) rows.push_back({1, i, text_[i], i + 1 == 127});
    const std::atomic<bool> never = false;
    EXPECT_EQ(model_->decoder->Decode(rows, never), DecodeResult::kOk) << dtype;
  }
}

// Short prompts in turns with the tokens of others, long ones in the lane.
TEST_F(ExactTest, BesideOthersEqualsAlone) {
  Load();
  if (!model_->prompts) GTEST_SKIP() << "one core: there is no lane";
  const std::vector<size_t> prompts = {20, 63, 180, 30, 200, 50};
  std::vector<ChoiceResult> alone;
  Start(kNoCache, false);
  for (const size_t prompt : prompts) {
    const auto request = Prompt(prompt, 40);
    alone.push_back(Ask(*request));
  }
  Start(kNoCache, true);
  std::vector<std::unique_ptr<TestRequest>> together;
  for (const size_t prompt : prompts) {
    together.push_back(Prompt(prompt, 40));
    Submit(*together.back());
    gatherer_.WaitText(together.back()->request.id, 1);  // the lane has a seat for the next
  }
  for (size_t i = 0; i < prompts.size(); ++i)
    ExpectSame(Wait(*together[i]), alone[i], std::to_string(prompts[i]) + " tokens");
}

TEST_F(ExactTest, GuessedTokensEqualThoseOneByOne) {
  options_.threads = 1;
  Load();
  const auto ask = [&](bool speculation) {
    Start({.prefill_chunk = 128, .max_waiting = 64, .prefix_caching = false, .speculation = speculation},
          false);
    auto request = Prompt(120, 90);
    const std::vector<Token> again(text_.begin(), text_.begin() + 30);  // of which there is more to copy
    request->tokens.insert(request->tokens.end(), again.begin(), again.end());
    return Ask(*request);
  };
  const ChoiceResult expected = ask(false);
  EXPECT_EQ(engine_->Stats().draft_tokens, 0u);
  ExpectSame(ask(true), expected, "guessed");
  EXPECT_GE(engine_->Stats().draft_tokens_accepted, 3u);  // how many depends on what steps cost
}

// StepWidth: what 3 sequences compute is what one does alone, and the fourth, with whose help a block is
// filled up, is as it was before; also when it has no room left.
TEST_F(ExactTest, WhoFillsUpAStepIsAsBefore) {
  options_.threads = 1;
  options_.max_model_len = 256;
  Load();
  Decoder& decoder = *model_->decoder;
  const std::atomic<bool> never = false;
  const auto hold = [&](uint32_t sequence, uint32_t tokens) {
    std::vector<Row> rows;
    for (uint32_t i = 0; i < tokens; ++i) rows.push_back({sequence, i, text_[i], i + 1 == tokens});
    EXPECT_EQ(decoder.Decode(rows, never), DecodeResult::kOk);
    std::vector<uint8_t> state;
    EXPECT_TRUE(decoder.Save(sequence, &state));
    return state;
  };
  constexpr uint32_t kSteps = 20;
  std::vector<std::vector<float>> alone;
  for (uint32_t i = 0; i < kSteps; ++i) {
    const Row row{0, i, text_[i], true};
    ASSERT_EQ(decoder.Decode({&row, 1}, never), DecodeResult::kOk);
    const auto logits = decoder.Logits(0);
    alone.emplace_back(logits.begin(), logits.end());
  }
  for (const uint32_t held : {0u, 40u, decoder.max_length()}) {
    for (uint32_t s = 0; s < 4; ++s) decoder.Truncate(s, 0);
    const auto before = held > 0 ? hold(3, held) : std::vector<uint8_t>();
    for (uint32_t i = 0; i < kSteps; ++i) {
      const std::vector<Row> rows = {{0, i, text_[i], true}, {1, i, text_[i], true}, {2, i, text_[i], true}};
      ASSERT_EQ(decoder.Decode(rows, never), DecodeResult::kOk) << held;
      for (uint32_t s = 0; s < 3; ++s)
        EXPECT_TRUE(std::ranges::equal(decoder.Logits(s), alone[i])) << held << ", " << s << ", step " << i;
    }
    std::vector<uint8_t> after;
    ASSERT_TRUE(decoder.Save(3, &after));
    if (held > 0) EXPECT_EQ(after, before) << held;
  }
}

// With a quantised KV cache llama.cpp has one arithmetic for everything.
TEST_F(ExactTest, AnythingGoesWithQ8) {
  options_.kv_cache_dtype = "q8_0";
  Load();
  const std::vector<size_t> prompts = {20, 64, 180, 250, 400};
  std::vector<ChoiceResult> alone;
  Start(kNoCache, false);
  for (const size_t prompt : prompts) {
    const auto request = Prompt(prompt, 16);
    alone.push_back(Ask(*request));
  }
  std::mt19937 random(1);
  for (const bool lane : {false, true}) {
    const uint32_t chunk = lane ? 200 : 16;
    Start({.prefill_chunk = chunk, .max_waiting = 64}, lane);
    std::vector<std::pair<std::unique_ptr<TestRequest>, size_t>> together;
    for (int i = 0; i < 12; ++i) {  // more than run at once, the later ones more urgent
      const size_t which = random() % prompts.size();
      auto request = Prompt(prompts[which], 16);
      request->request.priority = -i;
      Submit(*request);
      if (i % 3 == 2) gatherer_.WaitText(request->request.id, 3);
      together.emplace_back(std::move(request), which);
    }
    for (const auto& [request, which] : together)
      ExpectSame(Wait(*request), alone[which],
                 std::to_string(prompts[which]) + " tokens, chunks of " + std::to_string(chunk));
    EXPECT_GT(engine_->Stats().preemptions, 0u);
    EXPECT_GT(engine_->Stats().prompt_tokens_cached, 0u);
  }
}

}  // namespace
}  // namespace cyllm::llama
