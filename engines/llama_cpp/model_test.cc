// The real model, when CY_TEST_MODEL names its file (SmolLM2-135M-Instruct Q4_1): texts that llama.cpp's own
// loop gives, greedily.
#include <gtest/gtest.h>

#include <cstdlib>

#include "llama_cpp/backend.h"
#include "llama_cpp/engine.h"
#include "llama_cpp/llama_model.h"
#include "llama_cpp/test_client.h"

namespace cyllm::llama {
namespace {

using testing::ChoiceResult;
using testing::Gatherer;
using testing::Result;
using testing::TestRequest;

struct Golden {
  const char* prompt;
  std::string text;  // or how it begins
  uint32_t reason;
  bool firm;  // holds beside other requests too
};

const std::vector<Golden>& Goldens() {
  static const std::vector<Golden> goldens = {
      {"What is the capital of France?", "L'Étoile, la Marseillaise, la femme au roi, la femme au roi, ",
       CYLLM_FINISH_LENGTH, false},
      {"Write one sentence about the sea.", "The sea is a vast", CYLLM_FINISH_STOP, false},
      {"Count from one to ten in words.", "1. 1\n2. 2\n3. 3\n4. 4\n5. 5\n6. 6\n7. 7\n8. 8\n9. 9\n10. 10",
       CYLLM_FINISH_STOP, true},
      {"Explain what a hash table is in two sentences.",
       "A hash table is a data structure used in computer science to store and retrieve data in a hash-based "
       "manner, where the key is associated with a fixed-size hash code. This hash code is calculated based "
       "on "
       "the key's hash value, which is a fixed-size hash code that can be used to create a",
       CYLLM_FINISH_LENGTH, false},
      {"Translate 'good morning' to Spanish.", "Hoy, buen hora!", CYLLM_FINISH_STOP, true},
  };
  return goldens;
}

class ModelTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* path = std::getenv("CY_TEST_MODEL");
    if (!path || !*path) return;
    std::string why;
    SetLog(nullptr);
    ASSERT_TRUE(LoadBackends(CY_LLAMA_BACKENDS, &why)) << why;
    Options options;
    options.model_path = path;
    options.max_num_seqs = 8;
    options.max_model_len = 1024;
    cyllm_error error{};
    error.size = sizeof error;
    model_ = LoadModel(options, [](double, const std::string&) { return true; }, &error).release();
    ASSERT_TRUE(model_) << error.message;
  }
  static void TearDownTestSuite() {
    delete model_;
    model_ = nullptr;
  }
  void SetUp() override {
    if (!model_) GTEST_SKIP() << "CY_TEST_MODEL names no model";
    engine_ = std::make_unique<Engine>(*model_->decoder, *model_->vocabulary, *model_->chat,
                                       EngineLimits{256, 64}, gatherer_.callbacks());
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
  const ChoiceResult& choice = result.choices.at(0);
  EXPECT_EQ(choice.text.substr(0, golden.text.size()), golden.text);
  EXPECT_EQ(choice.reason, golden.reason) << choice.text;
  if (golden.firm) {
    EXPECT_EQ(choice.text, golden.text);
  }
}

TEST_F(ModelTest, GreedyTextsAlone) {
  uint64_t id = 0;
  for (const Golden& golden : Goldens()) {
    TestRequest request(++id);
    request.Chat(golden.prompt);
    Submit(request);
    Expect(golden, gatherer_.Wait(id));
  }
}

}  // namespace
}  // namespace cyllm::llama
