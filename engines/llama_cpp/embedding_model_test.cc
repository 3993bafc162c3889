// The real model, when CY_TEST_MODEL names its file: embeddings.
#include <cmath>
#include <utility>
#include <vector>

#include "llama_cpp/answer_fixture.h"

namespace cyllm::llama {
namespace {

using testing::AnswerModelTest;
using testing::Gatherer;
using testing::Result;
using testing::TestRequest;

std::vector<float> Embed(Gatherer& gatherer, Engine& engine, uint64_t id, std::vector<std::string> texts,
                         uint32_t dimensions, std::vector<std::vector<float>>* all) {
  TestRequest request(id);
  request.request.kind = CYLLM_KIND_EMBED;
  request.request.dimensions = dimensions;
  request.inputs = std::move(texts);
  cyllm_error error{};
  error.size = sizeof error;
  EXPECT_EQ(engine.Submit(request.get(), &error), CYLLM_OK) << error.message;
  const Result r = gatherer.Wait(id);
  EXPECT_EQ(r.code, 0) << r.message;
  if (all) *all = r.values;
  return r.values.empty() ? std::vector<float>() : r.values[0];
}

double Dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) sum += double{a[i]} * b[i];
  return sum;
}

TEST_F(AnswerModelTest, EmbeddingsAreUnitVectorsThatTellTextsApart) {
  std::vector<std::vector<float>> all;
  std::vector<std::string> texts = {"The cat sleeps on the sofa.", "A cat is sleeping on the couch.",
                                    "Interest rates rose by two percent."};
  for (int i = 0; i < 30; ++i) texts.push_back("Text number " + std::to_string(i));
  Embed(gatherer_, *engine_, 8000, texts, 0, &all);
  ASSERT_EQ(all.size(), texts.size());
  for (const auto& vector : all) {
    EXPECT_EQ(vector.size(), 576u);
    EXPECT_NEAR(Dot(vector, vector), 1, 1e-4);
  }
  EXPECT_GT(Dot(all[0], all[1]), Dot(all[0], all[2]));
  // Alone or beside others, in one step or in several: the same vector.
  std::string longer;
  for (int i = 0; i < 150; ++i) longer += "word " + std::to_string(i) + " ";
  const auto alone = Embed(gatherer_, *engine_, 8001, {texts[0]}, 0, nullptr);
  EXPECT_GT(Dot(alone, all[0]), 0.999);
  const auto one = Embed(gatherer_, *engine_, 8002, {longer}, 0, nullptr);
  Embed(gatherer_, *engine_, 8003, {texts[2], longer, texts[0]}, 0, &all);
  EXPECT_GT(Dot(one, all[1]), 0.999);
  EXPECT_GT(Dot(alone, all[2]), 0.999);
  const auto cut = Embed(gatherer_, *engine_, 8004, {texts[0]}, 32, nullptr);
  ASSERT_EQ(cut.size(), 32u);
  EXPECT_NEAR(Dot(cut, cut), 1, 1e-4);
  EXPECT_NEAR(cut[0] / cut[1], alone[0] / alone[1], 1e-2 * std::abs(alone[0] / alone[1]));
}

TEST_F(AnswerModelTest, EmbeddingsAreRefusedWhereTheyCannotBe) {
  std::string longer;
  for (int i = 0; i < 3000; ++i) longer += "word ";
  TestRequest request(8010);
  request.request.kind = CYLLM_KIND_EMBED;
  request.inputs = {"short", longer};
  Submit(request);
  const Result r = gatherer_.Wait(8010);
  EXPECT_EQ(r.reason, "context_length_exceeded");
  EXPECT_FALSE(r.accepted);
  TestRequest rank(8011);
  rank.request.kind = CYLLM_KIND_RERANK;
  rank.inputs = {"a"};
  cyllm_error error{};
  error.size = sizeof error;
  EXPECT_EQ(engine_->Submit(rank.get(), &error), CYLLM_UNIMPLEMENTED);
  TestRequest infill(8012);
  infill.Text("def f(").request.suffix = sdk::Str("return x");
  Submit(infill);
  EXPECT_EQ(gatherer_.Wait(8012).code, CYLLM_UNIMPLEMENTED);
}

TEST_F(AnswerModelTest, EmbeddingsStopWhenCancelledAndWaitForCredit) {
  std::vector<std::string> texts(200, "A sentence that is embedded again and again.");
  TestRequest request(8020);
  request.request.kind = CYLLM_KIND_EMBED;
  request.request.credit = 3;
  request.inputs = texts;
  Submit(request);
  gatherer_.WaitValues(8020, 3);
  TestRequest chat(8021);  // generation goes on beside it
  chat.Chat("Translate 'good morning' to Spanish.");
  Submit(chat);
  EXPECT_EQ(gatherer_.Wait(8021).choices.at(0).text, "Hoy, buen hora!");
  EXPECT_EQ(gatherer_.Now(8020).values.size(), 3u);
  engine_->Cancel(8020);
  EXPECT_EQ(gatherer_.Wait(8020).code, CYLLM_CANCELLED);
}

}  // namespace
}  // namespace cyllm::llama
