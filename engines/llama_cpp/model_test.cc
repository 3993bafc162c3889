// The real model, when CY_TEST_MODEL names its file (SmolLM2-135M-Instruct Q4_1): texts that llama.cpp's own
// loop gives, greedily.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iterator>
#include <memory>

#include "llama_cpp/backend.h"
#include "llama_cpp/engine.h"
#include "llama_cpp/llama_model.h"
#include "llama_cpp/plain_loop.h"
#include "llama_cpp/test_client.h"
#include "llama_cpp/test_model.h"

namespace cyllm::llama {
namespace {

using testing::ChoiceResult;
using testing::ExpectAgrees;
using testing::Gatherer;
using testing::PlainLoop;
using testing::PlainText;
using testing::Result;
using testing::TestRequest;

struct Golden {
  const char* prompt;
  std::string text;  // where it is firm
  uint32_t reason;
  bool firm;  // on every CPU
};

const std::vector<Golden>& Goldens() {
  static const std::vector<Golden> goldens = {
      {"What is the capital of France?", "", 0, false},
      {"Write one sentence about the sea.", "", 0, false},
      {"Count from one to ten in words.", "1. 1\n2. 2\n3. 3\n4. 4\n5. 5\n6. 6\n7. 7\n8. 8\n9. 9\n10. 10",
       CYLLM_FINISH_STOP, true},
      {"Explain what a hash table is in two sentences.", "", 0, false},
      {"Translate 'good morning' to Spanish.", "Hoy, buen hora!", CYLLM_FINISH_STOP, true},
  };
  return goldens;
}

class ModelTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    Options options;
    options.max_num_seqs = 8;
    options.max_model_len = 1024;
    model_ = testing::LoadTestModel(options).release();
  }
  static void TearDownTestSuite() {
    delete model_;
    model_ = nullptr;
  }
  void SetUp() override {
    if (!model_) GTEST_SKIP() << testing::kNoTestModel;
    Start({256, 64});
  }
  void Start(EngineLimits limits) {
    engine_.reset();
    engine_ = std::make_unique<Engine>(*model_->decoder, *model_->vocabulary, *model_->chat, limits,
                                       gatherer_.callbacks());
  }

  void Submit(TestRequest& request) {
    cyllm_error error{};
    error.size = sizeof error;
    ASSERT_EQ(engine_->Submit(request.get(), &error), CYLLM_OK) << error.message;
  }

  static LoadedModel* model_;
  Gatherer gatherer_;
  std::unique_ptr<Engine> engine_;
};

LoadedModel* ModelTest::model_ = nullptr;

void Expect(const Golden& golden, const Result& result) {
  ASSERT_EQ(result.code, 0) << result.message;
  EXPECT_EQ(result.choices.at(0).text, golden.text);
  EXPECT_EQ(result.choices.at(0).reason, golden.reason);
}

TEST_F(ModelTest, GreedyTextsAlone) {
  uint64_t id = 0;
  for (const Golden& golden : Goldens()) {
    TestRequest request(++id);
    request.Chat(golden.prompt);
    Submit(request);
    const Result result = gatherer_.Wait(id);
    EXPECT_EQ(result.choices.at(0).tokens, PlainLoop(*model_, request).tokens) << golden.prompt;
    if (golden.firm) Expect(golden, result);
  }
}

TEST_F(ModelTest, GreedyTextsBesideOthers) {
  std::vector<TestRequest> requests;
  for (uint64_t id = 101; id <= 108; ++id) {
    requests.emplace_back(id).Chat(Goldens()[id % 5].prompt);
    Submit(requests.back());
  }
  for (uint64_t id = 101; id <= 108; ++id) {
    const Result result = gatherer_.Wait(id);
    EXPECT_EQ(result.code, 0) << result.message;
    EXPECT_EQ(result.choices.at(0).tokens, PlainLoop(*model_, requests[id - 101]).tokens);
    if (Goldens()[id % 5].firm) Expect(Goldens()[id % 5], result);
  }
}

TEST_F(ModelTest, ContinuesTextAndTokensAlike) {
  TestRequest text(201);
  text.Text("Once upon a time").request.max_tokens = 16;
  Submit(text);
  const ChoiceResult a = gatherer_.Wait(201).choices[0];
  EXPECT_EQ(a.text,
            ", the city of New Haven was a thriving metropolis, with towering skyscrapers and bustling");
  TestRequest tokens(202);
  tokens.Tokens(model_->vocabulary->Tokenize("Once upon a time")).request.max_tokens = 16;
  Submit(tokens);
  const ChoiceResult b = gatherer_.Wait(202).choices[0];
  EXPECT_EQ(b.text, a.text);
  EXPECT_EQ(b.tokens, a.tokens);
}

TEST_F(ModelTest, SeedDecidesWhatIsDrawn) {
  const auto draw = [&](uint64_t id, int64_t seed) {
    TestRequest request(id);
    request.Chat("Tell me a story.");
    request.request.max_tokens = 12;
    request.request.n = 2;
    request.request.has_seed = 1;
    request.request.seed = seed;
    request.sampling.temperature = 1.5;
    request.sampling.logprobs = 1;
    Submit(request);
    const Result result = gatherer_.Wait(id);
    EXPECT_EQ(result.choices.at(0).logprobs.size(), result.choices.at(0).tokens.size());
    return std::pair(result.choices.at(0).text, result.choices.at(1).text);
  };
  const auto first = draw(301, 5);
  EXPECT_EQ(first, draw(302, 5));
  EXPECT_NE(first, draw(303, 6));
  EXPECT_NE(first.first, first.second);
}

TEST_F(ModelTest, TextIsUtf8AndStopsAreHonoured) {
  TestRequest request(401);
  request.Text("Emoji: \xF0\x9F\x98\x80 \xF0\x9F\x98\x82 \xF0\x9F\x98\x8A").request.max_tokens = 24;
  Submit(request);
  const std::string text = gatherer_.Wait(401).choices[0].text;
  Detokenizer check;
  EXPECT_EQ(check.Push(text), text);

  TestRequest stop(402);
  stop.Chat("Count from one to ten in words.").Stop({"4. 4", "never"});
  Submit(stop);
  const ChoiceResult choice = gatherer_.Wait(402).choices[0];
  EXPECT_EQ(choice.text, "1. 1\n2. 2\n3. 3\n");
  EXPECT_EQ(choice.stop_match, "4. 4");
}

// Texts of which the model is sure how they go on, behind so many sentences that they share.
std::vector<std::unique_ptr<TestRequest>> AfterSentences(size_t sentences, uint64_t* id, size_t count = 2) {
  std::string shared;
  for (size_t i = 0; i < sentences; ++i) shared += "Be kind and exact. ";
  const std::array tails = {"1 2 3 4 5 6 7 8 9 10 11 12", "a b c d e f g h i j k l"};
  std::vector<std::unique_ptr<TestRequest>> out;
  for (size_t i = 0; i < count; ++i) {
    out.push_back(std::make_unique<TestRequest>(++*id));
    out.back()->Text(shared + tails[i % tails.size()]).request.max_tokens = 20;
  }
  return out;
}

TEST_F(ModelTest, ReusedPrefixesGiveTheSameText) {
  uint64_t id = 400;
  for (const size_t sentences : {20u, 80u}) {
    Start({.prefill_chunk = 256, .max_waiting = 64, .prefix_caching = false});
    std::vector<PlainText> alone;
    size_t compared = 0;
    for (const auto& request : AfterSentences(sentences, &id)) {
      Submit(*request);
      const Result r = gatherer_.Wait(request->request.id);
      alone.push_back(PlainLoop(*model_, *request));
      compared += ExpectAgrees(alone.back(), r.choices.at(0), "alone");
      EXPECT_EQ(r.choices.at(0).cached_tokens, 0u);
    }
    EXPECT_GT(compared, 20u);
    Start({.prefill_chunk = 256, .max_waiting = 64});
    for (int round = 0; round < 2; ++round) {
      const uint64_t first = id + 1;
      const auto requests = AfterSentences(sentences, &id, 6);
      for (const auto& request : requests) Submit(*request);
      uint32_t computed = 0;
      for (size_t i = 0; i < 6; ++i) {
        const ChoiceResult c = gatherer_.Wait(first + i).choices.at(0);
        ExpectAgrees(alone[i % alone.size()], c,
                     std::to_string(sentences) + " sentences, round " + std::to_string(round));
        computed += c.prompt_tokens - c.cached_tokens;
      }
      // The common part once, and what differs at most.
      const uint32_t prompt = gatherer_.Now(first).prompt_tokens;
      EXPECT_LT(computed, round == 0 ? prompt + 6 * 50 : 6 * 50);
    }
  }
}

// A sequence that was copied away is used for something else before the next step.
TEST_F(ModelTest, ACopyHoldsWhatItsSourceHeldThen) {
  engine_.reset();
  Decoder& decoder = *model_->decoder;
  const std::atomic<bool> never = false;
  for (uint32_t s = 0; s < decoder.max_sequences(); ++s) decoder.Truncate(s, 0);
  const auto tokens = [&](const std::string& text) { return model_->vocabulary->Tokenize(text); };
  std::string counting;
  for (int i = 0; i < 60; ++i) counting += " one two three four five six seven eight";
  const auto decode = [&](uint32_t sequence, uint32_t from, std::span<const Token> more) {
    std::vector<Row> rows;
    for (size_t i = 0; i < more.size(); ++i)
      rows.push_back({sequence, from + static_cast<uint32_t>(i), more[i], i + 1 == more.size()});
    EXPECT_EQ(decoder.Decode(rows, never), DecodeResult::kOk);
    const auto logits = decoder.Logits(rows.size() - 1);
    return std::max_element(logits.begin(), logits.end()) - logits.begin();
  };
  const std::vector<Token> long_one = tokens(counting), short_one = tokens("The capital of France is");
  ASSERT_GT(long_one.size(), 400u);
  const auto size = static_cast<uint32_t>(long_one.size());
  const auto after_long = decode(0, 0, long_one);
  const auto after_short = decode(1, 0, short_one);
  ASSERT_NE(after_long, after_short);
  decoder.Copy(0, 2);
  decoder.Truncate(0, 0);
  decoder.Copy(1, 0);
  decoder.Truncate(2, size - 1);
  decoder.Truncate(0, static_cast<uint32_t>(short_one.size()) - 1);
  EXPECT_EQ(decode(2, size - 1, std::span(long_one).last(1)), after_long);
  EXPECT_EQ(decode(0, static_cast<uint32_t>(short_one.size()) - 1, std::span(short_one).last(1)),
            after_short);
  for (uint32_t s = 0; s < 3; ++s) decoder.Truncate(s, 0);
}

// The same with a prompt lane, which computes what comes while others decode.
TEST_F(ModelTest, PromptsOfTheLaneGiveTheSameText) {
  if (!model_->prompts) GTEST_SKIP() << "one core: there is no lane";
  engine_.reset();
  engine_ =
      std::make_unique<Engine>(*model_->decoder, *model_->vocabulary, *model_->chat, EngineLimits{256, 64},
                               gatherer_.callbacks(), AsideModel{}, model_->prompts.get());
  std::vector<uint8_t> state;
  ASSERT_TRUE(model_->prompts->Save(0, &state)) << "llama.cpp writes its state in another form";
  TestRequest busy(800);
  busy.Text("Once upon a time").request.max_tokens = 1000;
  busy.sampling.ignore_eos = 1;
  Submit(busy);
  gatherer_.WaitText(800, 4);
  uint64_t id = 800;
  std::vector<std::unique_ptr<TestRequest>> all;
  for (int round = 0; round < 2; ++round) {  // the second time with most of it cached
    auto requests = AfterSentences(30, &id);
    for (const auto& request : requests) {
      Submit(*request);
      ASSERT_EQ(gatherer_.Wait(request->request.id).code, 0);
    }
    std::move(requests.begin(), requests.end(), std::back_inserter(all));
  }
  EXPECT_FALSE(gatherer_.Now(800).ended) << "nobody decoded meanwhile";
  engine_->Cancel(800);
  gatherer_.Wait(800);
  size_t compared = 0;
  for (const auto& request : all)
    compared +=
        ExpectAgrees(PlainLoop(*model_, *request), gatherer_.Now(request->request.id).choices.at(0), "lane");
  EXPECT_GT(compared, 40u);
}

TEST_F(ModelTest, APreemptedRequestGoesOnWhereItWas) {
  std::vector<std::unique_ptr<TestRequest>> requests;
  for (uint64_t id = 501; id <= 508; ++id) {
    requests.push_back(std::make_unique<TestRequest>(id));
    requests.back()->Chat(Goldens()[2].prompt).request.priority = 5;
    Submit(*requests.back());
  }
  gatherer_.WaitText(508, 4);
  for (uint64_t id = 509; id <= 511; ++id) {
    TestRequest urgent(id);
    urgent.Chat(Goldens()[4].prompt);
    Submit(urgent);
  }
  for (uint64_t id = 501; id <= 508; ++id) Expect(Goldens()[2], gatherer_.Wait(id));
  for (uint64_t id = 509; id <= 511; ++id) Expect(Goldens()[4], gatherer_.Wait(id));
  EXPECT_GE(engine_->Stats().preemptions, 3u);
}

}  // namespace
}  // namespace cyllm::llama
