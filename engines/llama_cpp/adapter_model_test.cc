// The real model with adapters of random numbers, when CY_TEST_MODEL names its file.
#include <gtest/gtest.h>
#include <llama.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "llama_cpp/adapter_file.h"
#include "llama_cpp/exact_fixture.h"
#include "llama_cpp/plain_loop.h"
#include "llama_cpp/test_lora.h"

namespace cyllm::llama {
namespace {

using testing::ChoiceResult;
using testing::ExactTest;
using testing::ExpectAgrees;
using testing::kNoCache;
using testing::PlainLoop;
using testing::Result;
using testing::TestLora;
using testing::TestRequest;
using testing::WriteLora;

class AdapterModelTest : public ExactTest {
 protected:
  void SetUp() override {
    ExactTest::SetUp();
    if (IsSkipped()) return;
    std::filesystem::create_directories(folder_);
    Write("cook", {.seed = 1, .alpha = 48});
    Write("poet", {.seed = 2, .rank = 16, .alpha = 96, .type = GGML_TYPE_F16});
  }
  void TearDown() override {
    engine_.reset();
    model_.reset();
    std::filesystem::remove_all(folder_);
  }

  void Write(const std::string& name, const TestLora& lora) {
    options_.adapters[name] = Path(name);
    ASSERT_TRUE(WriteLora(options_.model_path, Path(name), lora));
  }
  std::string Path(const std::string& name) const { return (folder_ / (name + ".gguf")).string(); }
  std::unique_ptr<TestRequest> Prompt(size_t tokens, uint32_t answer, const std::string& adapter) {
    auto out = ExactTest::Prompt(tokens, answer);
    out->Adapter(adapter);
    return out;
  }
  // As the engine has it, and as it lies there.
  llama_adapter_lora* Lora(const std::string& name, bool exact) {
    std::string why;
    const FilePtr file = OpenAdapter(Path(name), "llama", exact, &why);
    return llama_adapter_lora_init_from_file_ptr(static_cast<llama_model*>(model_->model.get()), file.get());
  }
  std::string LoadFails() {
    cyllm_error error{};
    error.size = sizeof error;
    EXPECT_FALSE(LoadModel(options_, [](double, const std::string&) { return true; }, &error));
    EXPECT_EQ(error.code, CYLLM_FAILED_PRECONDITION);
    return error.message;
  }

  const std::filesystem::path folder_ = std::filesystem::temp_directory_path() /
                                        ("cyllm_lora_" + std::to_string(::getpid()) +
                                         ::testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(AdapterModelTest, EqualsThePlainLoopWithTheAdapter) {
  options_.threads = 1;
  Load();
  Start(kNoCache, false);
  for (const size_t prompt : {1u, 70u}) {
    const ChoiceResult base = Ask(*Prompt(prompt, 10, ""));
    for (const char* name : {"cook", "poet"}) {
      const auto request = Prompt(prompt, 10, name);
      request->sampling.ignore_eos = 0;
      const ChoiceResult got = Ask(*request);
      EXPECT_NE(got.tokens, base.tokens) << name;
      EXPECT_EQ(got.tokens, PlainLoop(*model_, *request, Lora(name, true)).tokens) << name << prompt;
      ExpectAgrees(PlainLoop(*model_, *request, Lora(name, false)), got, name);
    }
    const auto again = Prompt(prompt, 10, "");
    ExpectSame(Ask(*again), base, "without one, after them");
  }
}

// In turns, in the lane, beside others of their own and of other adapters, alone: not a bit differs.
TEST_F(AdapterModelTest, BesideOthersEqualsAlone) {
  Load();
  const std::vector<std::pair<size_t, const char*>> prompts = {
      {20, ""}, {30, "poet"}, {63, "cook"}, {30, "cook"}, {50, "poet"}, {40, ""}, {90, "poet"}, {100, ""}};
  std::vector<ChoiceResult> alone;
  Start(kNoCache, false);
  for (const auto& [prompt, adapter] : prompts) alone.push_back(Ask(*Prompt(prompt, 20, adapter)));
  for (const bool lane : {false, true}) {
    if (lane && !model_->prompts) continue;
    Start(kNoCache, lane);
    std::vector<std::unique_ptr<TestRequest>> together;
    for (const auto& [prompt, adapter] : prompts) {
      if (!lane && prompt >= kTileRows) continue;  // README.md, Equal texts: it may be cut
      together.push_back(Prompt(prompt, 20, adapter));
      Submit(*together.back());
      if (lane) gatherer_.WaitText(together.back()->request.id, 1);
    }
    for (size_t i = 0; i < together.size(); ++i)
      ExpectSame(Wait(*together[i]), alone[i], std::to_string(i) + (lane ? " with a lane" : ""));
  }
}

TEST_F(AdapterModelTest, TakenOverAndPreemptedEqualUndisturbed) {
  options_.threads = 1;
  options_.max_num_seqs = 1;
  Load();
  Start(kNoCache, false);
  const auto whole = Prompt(80, 70, "poet");
  const ChoiceResult expected = Ask(*whole);
  const std::vector<Result> cuts = gatherer_.Cuts(whole->request.id);
  for (const size_t cut : {1u, 60u}) {
    const auto rest = Prompt(80, 70, "poet");
    rest->Resume(cuts[cut]);
    gatherer_.Before(rest->request.id, cuts[cut]);
    ExpectSame(Ask(*rest), expected, "cut at " + std::to_string(cut));
  }
  const auto patient = Prompt(80, 70, "poet"), urgent = Prompt(20, 2, "cook");
  patient->request.priority = 5;
  patient->request.credit = 50;  // stands still there until the other has had its turn
  Submit(*patient);
  gatherer_.WaitText(patient->request.id, 50);
  Submit(*urgent);
  Wait(*urgent);
  engine_->Credit(patient->request.id, 1000);
  ExpectSame(Wait(*patient), expected, "preempted");
  EXPECT_EQ(engine_->Stats().preemptions, 1u);
}

// Any schedule, the cache and guesses on: with a quantised KV cache everything is the same.
TEST_F(AdapterModelTest, TheCacheKeepsThemApart) {
  options_.kv_cache_dtype = "q8_0";
  Load();
  const std::vector<const char*> adapters = {"", "cook", "poet"};
  std::vector<ChoiceResult> alone;
  Start(kNoCache, false);
  for (const char* adapter : adapters) alone.push_back(Ask(*Prompt(120, 10, adapter)));
  Start({.prefill_chunk = 64, .max_waiting = 64}, true);
  for (int round = 0; round < 2; ++round)
    for (size_t i = 0; i < adapters.size(); ++i) {
      const ChoiceResult got = Ask(*Prompt(120, 10, adapters[i]));
      ExpectSame(got, alone[i], adapters[i]);
      EXPECT_EQ(got.cached_tokens > 0, round > 0) << adapters[i];
    }
  std::vector<std::unique_ptr<TestRequest>> together;
  for (size_t i = 0; i < 12; ++i) {
    together.push_back(Prompt(120, 10, adapters[i % adapters.size()]));
    together.back()->request.priority = -static_cast<int32_t>(i);
    Submit(*together.back());
  }
  for (size_t i = 0; i < together.size(); ++i)
    ExpectSame(Wait(*together[i]), alone[i % adapters.size()], std::to_string(i));
}

TEST_F(AdapterModelTest, IsDescribed) {
  options_.max_num_seqs = 1;
  options_.max_model_len = 256;
  Load();
  EXPECT_EQ(model_->decoder->adapters(), (std::vector<std::string>{"cook", "poet"}));
  EXPECT_TRUE(model_->capabilities & CYLLM_CAP_LORA);
  const std::string digest = model_->digest;
  Load();
  EXPECT_EQ(model_->digest, digest);
  Write("poet", {.seed = 3, .rank = 16, .type = GGML_TYPE_F16});
  Load();
  EXPECT_NE(model_->digest, digest);
  options_.adapters.clear();
  Load();
  EXPECT_NE(model_->digest, digest);
  EXPECT_FALSE(model_->capabilities & CYLLM_CAP_LORA);
}

TEST_F(AdapterModelTest, FilesThatDoNotFit) {
  const std::string model = std::filesystem::path(options_.model_path).filename().string();
  const auto expected = [&](const std::string& what) {
    return model + ": the adapter 'x': " + Path("x") + " " + what;
  };
  options_.adapters["x"] = Path("x");
  EXPECT_EQ(LoadFails(), expected("cannot be read"));
  std::ofstream(Path("x")) << "not at all";
  EXPECT_EQ(LoadFails(), expected("is no GGUF file"));
  Write("x", {.architecture = "qwen2"});
  EXPECT_EQ(LoadFails(), expected("is for another model: its architecture is 'qwen2', the model's 'llama'"));
  Write("x", {.wider = 32});
  EXPECT_EQ(LoadFails(), expected("is for another model, or damaged (the log says more)"));
}

}  // namespace
}  // namespace cyllm::llama
