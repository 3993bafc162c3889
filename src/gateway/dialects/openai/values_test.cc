// Embeddings, ranks, tokens.
#include <gmock/gmock.h>

#include "gateway/dialects/common/test_util.h"
#include "gateway/dialects/openai/openai.h"

namespace cyllm::openai {
namespace {

namespace json = boost::json;
using dialect::BodyOf;
using dialect::FactsOf;
using dialect::PartsOf;

const Finished kDone{0, FinishReason::kStop, "", {7, 0, 0, 0}, {}};

TEST(EmbeddingsTest, Inputs) {
  EXPECT_EQ(PartsOf(ParseEmbeddings(R"({"input":"a"})", {})).inputs, (std::vector<Input>{{"a", {}}}));
  EXPECT_EQ(PartsOf(ParseEmbeddings(R"({"input":["a",""]})", {})).inputs,
            (std::vector<Input>{{"a", {}}, {"", {}}}));
  EXPECT_EQ(PartsOf(ParseEmbeddings(R"({"input":[1,2]})", {})).inputs, (std::vector<Input>{{"", {1, 2}}}));
  EXPECT_EQ(PartsOf(ParseEmbeddings(R"({"input":[[1],[2]],"dimensions":3})", {})).dimensions, 3u);
  EXPECT_EQ(FactsOf(ParseEmbeddings(R"({"input":"a"})", {})).kind, Kind::kEmbed);
  for (const char* input : {"null", "[]", "{}", "[[]]", "[1.5]", "[\"a\",1]", "[-1]"}) {
    const auto call = ParseEmbeddings(std::string(R"({"input":)") + input + "}", {});
    ASSERT_FALSE(call) << input;
    EXPECT_EQ(call.error().param, "input");
  }
  EXPECT_FALSE(ParseEmbeddings(R"({"input":["a","b"]})", {16, 1}));
  EXPECT_EQ(ParseEmbeddings(R"({"input":"a","encoding_format":"hex"})", {}).error().param, "encoding_format");
}

TEST(EmbeddingsTest, AnswersInTheOrderOfTheInputs) {
  const auto call = ParseEmbeddings(R"({"model":"m","input":["a","b"]})", {});
  const json::value body = BodyOf(*call, {Accepted{}, Values{1, {0.25f, -1}}, Values{0, {1, 0.1f}}, kDone});
  EXPECT_EQ(body.at("object"), "list");
  EXPECT_EQ(body.at("data").at(0).at("index"), 0);
  EXPECT_EQ(body.at("data").at(0).at("embedding").at(1).to_number<double>(), 0.1);
  EXPECT_EQ(body.at("data").at(1).at("embedding").at(0).to_number<double>(), 0.25);
  EXPECT_EQ(body.at("usage"), (json::value{{"prompt_tokens", 7}, {"total_tokens", 7}}));
}

TEST(EmbeddingsTest, Base64IsLittleEndianFloats) {
  const auto call = ParseEmbeddings(R"({"input":"a","encoding_format":"base64"})", {});
  EXPECT_EQ(BodyOf(*call, {Values{0, {1, -2}}, kDone}).at("data").at(0).at("embedding"), "AACAPwAAAMA=");
}

TEST(RerankTest, BestFirst) {
  const auto call = ParseRerank(
      R"({"query":"q","documents":["a",{"text":"b"},"c"],"top_n":2,"return_documents":true})", {});
  EXPECT_EQ(PartsOf(call).prompt, "q");
  const json::value results =
      BodyOf(*call, {Values{0, {-1}}, Values{1, {3}}, Values{2, {0.5f}}, kDone}).at("results");
  ASSERT_EQ(results.as_array().size(), 2u);
  EXPECT_EQ(results.at(0), json::parse(R"({"index":1,"relevance_score":3,"document":{"text":"b"}})"));
  EXPECT_EQ(results.at(1).at("index"), 2);
}

TEST(RerankTest, BareFormAndMistakes) {
  const auto call = ParseRerank(R"({"query":"q","texts":["a","b"]})", {});
  EXPECT_EQ(BodyOf(*call, {Values{1, {2}}, kDone}),
            json::parse(R"([{"index":1,"score":2},{"index":0,"score":0}])"));
  for (const char* documents : {"[]", "null", "123", "[1,2]", "[{}]"})
    EXPECT_FALSE(ParseRerank(std::string(R"({"query":"q","documents":)") + documents + "}", {})) << documents;
  EXPECT_EQ(ParseRerank(R"({"documents":["a"]})", {}).error().param, "query");
  // More than there are: all of them.
  EXPECT_EQ(BodyOf(*ParseRerank(R"({"query":"q","documents":["a"],"top_n":9})", {}), {kDone})
                .at("results")
                .as_array()
                .size(),
            1u);
}

TEST(TokenizeTest, BothSpellings) {
  const auto vllm = ParseTokenize(R"({"model":"m","prompt":"a b"})", {});
  EXPECT_FALSE(PartsOf(vllm).no_special_tokens);
  EXPECT_EQ(PartsOf(vllm).prompt, "a b");
  EXPECT_TRUE(PartsOf(ParseTokenize(R"({"content":"a b"})", {})).no_special_tokens);
  EXPECT_EQ(BodyOf(*vllm, {TextDelta{0, "", {5, 6}, {}, {}}, kDone}),
            (json::value{{"tokens", {5, 6}}, {"count", 2}}));
  dialect::ResponseInfo info;
  info.context_length = [] { return 9u; };
  std::string out;
  vllm->writer(info)->End(out);
  EXPECT_EQ(json::parse(out), json::parse(R"({"tokens":[],"count":0,"max_model_len":9})"));
  const auto pieces = ParseTokenize(R"({"content":"a","with_pieces":true})", {});
  EXPECT_TRUE(PartsOf(pieces).sampling.logprobs);
  EXPECT_EQ(
      BodyOf(*pieces, {TextDelta{0, "", {5, 6, 7}, {{5, "a\"", 0, {}}, {6, "\xc3\xff", 0, {}}}, {}}, kDone}),
      json::parse(
          R"({"tokens":[{"id":5,"piece":"a\""},{"id":6,"piece":[195,255]},{"id":7,"piece":null}],"count":3})"));
  EXPECT_FALSE(
      PartsOf(ParseTokenize(R"({"messages":[{"role":"user","content":"x"}]})", {})).messages_json.empty());
  EXPECT_FALSE(ParseTokenize("{}", {}));
  const auto back = ParseDetokenize(R"({"tokens":[5,6]})", {});
  EXPECT_EQ(PartsOf(back).prompt_tokens, (std::vector<int32_t>{5, 6}));
  EXPECT_EQ(BodyOf(*back, {TextDelta{0, "a b", {}, {}, {}}, kDone}),
            (json::value{{"content", "a b"}, {"prompt", "a b"}}));
  EXPECT_FALSE(ParseDetokenize(R"({"tokens":["x"]})", {}));
}

TEST(CompletionTest, Suffix) {
  const auto call = ParseCompletion(R"({"prompt":"a","suffix":"b"})", {});
  EXPECT_EQ(PartsOf(call).suffix, "b");
  EXPECT_TRUE(FactsOf(call).needs & kCapInfill);
  EXPECT_FALSE(ParseCompletion(R"({"prompt":[1],"suffix":"b"})", {}));
}

}  // namespace
}  // namespace cyllm::openai
