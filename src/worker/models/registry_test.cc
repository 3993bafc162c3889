#include "worker/models/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cyllm {
namespace {

using testing::HasSubstr;

const std::vector<EngineFacts> kEngines = {
    {"echo", false, "default", "", {"itl_ms"}},
    {"llama_cpp", true, "smollm2-135m-instruct", "smollm2", {"max_model_len", "adapter_path", "adapters"}},
};

Result<Registry> Read(const std::string& text, const std::string& default_model = "",
                      const std::string& engine = "") {
  return ReadRegistry({text, "", default_model, engine}, kEngines);
}

TEST(RegistryTest, NothingConfiguredIsTheEnginesOwnModel) {
  auto r = Read("");
  ASSERT_TRUE(r);
  EXPECT_EQ(r->models.at(0).id, "smollm2-135m-instruct");
  EXPECT_EQ(r->models.at(0).source, "smollm2");
  EXPECT_EQ(r->Find("default"), &r->models.at(0));
  r = Read("", "", "echo");
  ASSERT_TRUE(r);
  EXPECT_EQ(r->models.at(0).id, "default");
}

TEST(RegistryTest, OneModelBySource) {
  for (const auto& [source, id] : {std::pair{"hf:a/b/Qwen-Q4.gguf", "Qwen-Q4"},
                                   {"/m/x.gguf", "x"},
                                   {"https://h/y.gguf?download=true", "y"},
                                   {"smollm2", "smollm2-135m-instruct"}}) {
    const auto r = Read("", source);
    ASSERT_TRUE(r);
    EXPECT_EQ(r->models.at(0).id, id);
    EXPECT_EQ(r->models.at(0).source, source);
    EXPECT_TRUE(r->Find("default"));
  }
}

TEST(RegistryTest, AdaptersAreKnownByName) {
  const auto read = [](const std::string& keys) {
    return Read(R"({"m":{"model_path":"/m", )" + keys + "}}");
  };
  const auto names = [&](const std::string& keys) {
    const auto r = read(keys);
    EXPECT_TRUE(r) << r.error().message;
    return r->models[0].adapters;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names(R"("adapter_path": "/a")"), Names{"adapter"});
  EXPECT_EQ(names(R"("adapter_path": "", "adapters": null)"), Names{});
  EXPECT_EQ(names(R"("adapters": {"poet": "/p", "cook": "/c"}, "adapter_path": "/a")"),
            (Names{"adapter", "cook", "poet"}));
  for (const char* wrong : {R"("adapters": [])", R"("adapters": {"": "/p"})", R"("adapters": {"p": 1})",
                            R"("adapters": {"p": ""})", R"("adapter_path": 1)",
                            R"("adapters": {"adapter": "/p"}, "adapter_path": "/a")"})
    EXPECT_FALSE(read(wrong)) << wrong;
  const auto echo = Read(R"({"m":{"engine":"echo", "adapter_path": "/a"}})");
  ASSERT_TRUE(echo);
  EXPECT_TRUE(echo->models[0].adapters.empty());
  EXPECT_EQ(echo->warnings.size(), 1u);
}

TEST(RegistryTest, ContractsForms) {
  for (const char* text :
       {R"({"m1":{"model_path":"/a.gguf"},"m2":{"model_path":"/b.gguf","engine":" LLAMA_CPP "}})",
        R"({"models":{"m1":{"model_path":"/a.gguf"},"m2":{"source":"/b.gguf"}}})"}) {
    const auto r = Read(text);
    ASSERT_TRUE(r) << r.error().message;
    EXPECT_EQ(r->models.size(), 2u);
    EXPECT_EQ(r->default_id, "m1");
    EXPECT_EQ(r->Find("m2")->source, "/b.gguf");
    EXPECT_EQ(r->Find("nope"), nullptr);
  }
  const auto r = Read(R"({"m1":{"model_path":"/a"},"default":{"model_path":"/b"}})");
  EXPECT_EQ(r->Find("default")->source, "/b");
  EXPECT_EQ(Read(R"({"m1":{"model_path":"/a"},"m2":{"model_path":"/b"}})", "m2")->Find("default")->id, "m2");
}

TEST(RegistryTest, KnownKeysThatDoNothingWarn) {
  const auto r = Read(R"({"m":{"model_path":"/a","tensor_parallel_size":2,"max_model_len":512}})");
  ASSERT_TRUE(r);
  ASSERT_EQ(r->warnings.size(), 1u);
  EXPECT_THAT(r->warnings[0], HasSubstr("tensor_parallel_size"));
  EXPECT_EQ(r->models[0].options_json, R"({"max_model_len":512})");
}

TEST(RegistryTest, MistakesAreNamed) {
  const std::tuple<const char*, const char*, const char*> kTable[] = {
      {"{", "", "no JSON"},
      {"[]", "", "object"},
      {"{}", "", "no model"},
      {R"({"m":3})", "", "'m'"},
      {R"({"m":{}})", "", "model_path"},
      {R"({"m":{"model_path":7}})", "", "'model_path' must be a text"},
      {R"({"m":{"model_path":"/path/to/model"}})", "", "placeholder"},
      {R"({"m":{"model_path":"/a","modelpath":1}})", "",
       "unknown key 'modelpath'; known for engine llama_cpp: model_path"},
      {R"({"m":{"model_path":"/a","engine":"cuda-vllm"}})", "", "'cuda-vllm' is unknown"},
      {R"({"m":{"model_path":"/a","engine":"gpt"}})", "", "unknown; here are: echo, llama_cpp"},
      {R"({"m":{"model_path":"/a"}})", "other", "it has: m"},
  };
  for (const auto& [text, default_model, expected] : kTable) {
    const auto r = Read(text, default_model);
    ASSERT_FALSE(r) << text;
    EXPECT_THAT(r.error().message, HasSubstr(expected)) << text;
    EXPECT_EQ(r.error().code, Code::kInvalidArgument);
  }
  const auto r = ReadRegistry({"", "/nonexistent/models.json", "", ""}, kEngines);
  ASSERT_FALSE(r);
  EXPECT_THAT(r.error().message, HasSubstr("/nonexistent/models.json"));
}

TEST(RegistryTest, AnEntrySaysWhetherItsEngineHasAProcessOfItsOwn) {
  const std::vector<EngineFacts> engines = {{"echo", false, "default", "", {}, false},
                                            {"vllm", false, "", "", {"url"}, true}};
  const auto read = [&](const std::string& rest) {
    return ReadRegistry({R"({"m": {"engine": "echo", )" + rest + "}}", "", "", ""}, engines);
  };
  EXPECT_TRUE(read(R"("isolation": "process")")->models[0].isolated);
  EXPECT_FALSE(read(R"("isolation": "none")")->models[0].isolated);
  EXPECT_FALSE(read(R"("isolation": null)")->models[0].isolated);
  EXPECT_EQ(read(R"("isolation": "process")")->models[0].options_json, "{}");
  EXPECT_THAT(read(R"("isolation": "thread")").error().message,
              testing::HasSubstr("\"none\" or \"process\""));
  EXPECT_THAT(read(R"("isolation": true)").error().message, testing::HasSubstr("'isolation' must be"));
  const auto server = ReadRegistry(
      {R"({"m": {"engine": "vllm", "url": "http://x", "isolation": "process"}})", "", "", ""}, engines);
  EXPECT_THAT(server.error().message, testing::HasSubstr("a process anyway"));
}

}  // namespace
}  // namespace cyllm
