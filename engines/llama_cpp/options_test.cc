#include "llama_cpp/options.h"

#include <gtest/gtest.h>

namespace cyllm::llama {
namespace {

std::string Error(const char* config) {
  std::string error;
  EXPECT_FALSE(ParseOptions(config, &error));
  return error;
}

TEST(Options, ReadsWhatItKnows) {
  std::string error;
  const auto o = ParseOptions(
      R"({"threads": 3, "model": {"id": "m", "path": "/m.gguf", "max_model_len": 2048, "max_num_seqs": 5,
          "kv_cache_dtype": "q8_0", "n_gpu_layers": 0, "use_4bit": true, "enable_prefix_caching": false, "target_itl_ms": 40,
          "speculation": "off"}})",
      &error);
  ASSERT_TRUE(o) << error;
  EXPECT_EQ(o->threads, 3u);
  EXPECT_EQ(o->model_path, "/m.gguf");
  EXPECT_EQ(o->max_model_len, 2048u);
  EXPECT_EQ(o->max_num_seqs, 5u);
  EXPECT_EQ(o->kv_cache_dtype, "q8_0");
  EXPECT_EQ(o->n_gpu_layers, 0);
  EXPECT_FALSE(o->prefix_caching);
  EXPECT_EQ(o->target_itl_ms, 40);
  EXPECT_FALSE(o->speculation);
  EXPECT_TRUE(ParseOptions(R"({"model": {"path": "/m"}})", &error)->speculation);
}

TEST(Options, AdaptersByName) {
  std::string error;
  const auto o = ParseOptions(
      R"({"model": {"path": "/m", "adapter_path": "/a.gguf", "adapters": {"poet": "/p.gguf", "cook": "/c.gguf"}}})",
      &error);
  ASSERT_TRUE(o) << error;
  using Files = std::map<std::string, std::string>;
  EXPECT_EQ(o->adapters, (Files{{"adapter", "/a.gguf"}, {"cook", "/c.gguf"}, {"poet", "/p.gguf"}}));
  EXPECT_TRUE(ParseOptions(R"({"model": {"path": "/m", "adapter_path": "", "adapters": null}})", &error)
                  ->adapters.empty());
  for (const char* wrong : {"[]", R"({"poet": 1})", R"({"poet": ""})", R"({"": "/p"})"})
    EXPECT_EQ(Error((R"({"model": {"path": "/m", "adapters": )" + std::string(wrong) + "}}").c_str()),
              "'adapters' must be an object: name -> path of a GGUF file");
  EXPECT_EQ(Error(R"({"model": {"path": "/m", "adapter_path": "/a", "adapters": {"adapter": "/b"}}})"),
            "'adapters' and 'adapter_path' both name an adapter 'adapter'");
}

TEST(Options, NamesTheKeyAtFault) {
  EXPECT_EQ(Error("[]"), "the configuration is not a JSON object");
  EXPECT_EQ(Error(R"({"threads": 1})"), "'model' is missing");
  EXPECT_EQ(Error(R"({"model": {}})"), "the model has no file: llama_cpp needs one ('path')");
  EXPECT_EQ(Error(R"({"model": {"path": "/m", "max_num_seqs": 0}})"),
            "'max_num_seqs' must be a whole number from 1 to 256");
  EXPECT_EQ(Error(R"({"model": {"path": "/m", "max_model_len": "4k"}})"),
            "'max_model_len' must be a whole number from 1 to 16777216");
  EXPECT_EQ(Error(R"({"model": {"path": "/m", "enable_prefix_caching": 1}})"),
            "'enable_prefix_caching' must be true or false");
  EXPECT_EQ(Error(R"({"model": {"path": "/m", "kv_cache_dtype": "fp8"}})"),
            "'kv_cache_dtype' must be auto, f16, bf16 or q8_0");
  EXPECT_EQ(Error(R"({"model": {"path": "/m", "speculation": "draft"}})"),
            "'speculation' must be ngram or off");
}

TEST(Options, PlanStaysWithinTheBudget) {
  constexpr uint64_t kToken = 1000;
  const auto plan = [](uint32_t length, uint32_t sequences, uint32_t model, uint64_t cells) {
    Options o;
    o.max_model_len = length;
    o.max_num_seqs = sequences;
    o.prefill_lane = false;
    const KvPlan p = PlanKv(o, model, kToken, cells * kToken);
    return std::pair(p.max_model_len, p.max_num_seqs);
  };
  using P = std::pair<uint32_t, uint32_t>;
  EXPECT_EQ(plan(0, 0, 8192, 80 * 2048), P(2048, 64));      // and 16 that keep prefixes
  EXPECT_EQ(plan(0, 0, 8192, 80 * 2048 - 1), P(3840, 32));  // not 64 that are too short
  EXPECT_EQ(plan(0, 0, 1024, 1 << 20), P(1024, 64));
  EXPECT_EQ(plan(0, 0, 8192, 100), P(256, 1));
  EXPECT_EQ(plan(8192, 0, 8192, 16384), P(8192, 2));
  EXPECT_EQ(plan(99999, 0, 8192, 16384), P(8192, 2));
  EXPECT_EQ(plan(0, 8, 8192, 16384), P(1536, 8));
  EXPECT_EQ(plan(8192, 64, 8192, 16384), P(8192, 64));  // said so: obeyed
}

TEST(Options, SequencesThatOnlyKeepPrefixes) {
  const auto spare = [](uint32_t length, uint32_t sequences, uint64_t cells, bool caching = true) {
    Options o;
    o.max_model_len = length;
    o.max_num_seqs = sequences;
    o.prefix_caching = caching;
    o.prefill_lane = false;
    const KvPlan p = PlanKv(o, 8192, 1, cells);
    EXPECT_LE((p.max_num_seqs + p.spare) * uint64_t{p.max_model_len},
              std::max(cells, uint64_t{p.max_num_seqs} * p.max_model_len));
    return p.spare;
  };
  EXPECT_EQ(spare(0, 0, 80 * 2048), 16u);
  EXPECT_EQ(spare(0, 8, 16384), 2u);
  EXPECT_EQ(spare(0, 8, 16384, false), 0u);
  EXPECT_EQ(spare(0, 250, 1 << 20), 6u);     // llama.cpp's limit
  EXPECT_EQ(spare(2048, 8, 11 * 2048), 2u);  // what the memory leaves
  EXPECT_EQ(spare(2048, 8, 9 * 2048), 1u);
  EXPECT_EQ(spare(8192, 64, 16384), 0u);
}

TEST(Options, SeatsOfThePromptLane) {
  const auto plan = [](uint32_t length, uint32_t sequences, uint64_t cells) {
    Options o;
    o.max_model_len = length;
    o.max_num_seqs = sequences;
    const KvPlan p = PlanKv(o, 8192, 1, cells);
    EXPECT_LE((p.max_num_seqs + p.spare + p.seats) * uint64_t{p.max_model_len},
              std::max(cells, uint64_t{p.max_num_seqs} * p.max_model_len));
    return std::pair(p.seats, p.spare);
  };
  using P = std::pair<uint32_t, uint32_t>;
  EXPECT_EQ(plan(0, 64, 1 << 20), P(4, 16));
  EXPECT_EQ(plan(0, 16, 1 << 20), P(2, 4));
  EXPECT_EQ(plan(0, 2, 1 << 20), P(1, 1));
  EXPECT_EQ(plan(0, 1, 1 << 20), P(0, 1));       // nobody would decode meanwhile
  EXPECT_EQ(plan(2048, 8, 10 * 2048), P(2, 0));  // what the memory leaves: seats first
  EXPECT_EQ(plan(2048, 8, 11 * 2048), P(2, 1));
  EXPECT_EQ(plan(2048, 8, 8 * 2048), P(0, 0));
}

TEST(Options, CpuBudgetIsPositive) { EXPECT_GE(CpuBudget(), 1u); }

}  // namespace
}  // namespace cyllm::llama
