#include "gateway/dialects/ollama/ollama.h"

#include <gmock/gmock.h>

#include <sstream>

#include "gateway/dialects/common/test_util.h"

namespace cyllm::ollama {
namespace {

namespace json = boost::json;
using dialect::Answered;
using dialect::BodyOf;
using dialect::FactsOf;
using dialect::PartsOf;

std::vector<json::value> Lines(const std::string& text) {
  std::vector<json::value> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(json::parse(line));
  EXPECT_TRUE(text.ends_with('\n'));
  return out;
}

constexpr char kChat[] = R"({"model":"m:latest","messages":[{"role":"user","content":"hi"}]})";
const Finished kDone{0, FinishReason::kStop, "", {7, 0, 5, 0}, {1, 3, 10}};

TEST(OllamaTest, ChatStreamsLinesUnlessTold) {
  const auto call = ParseChat(kChat, {});
  ASSERT_TRUE(call) << call.error().message;
  EXPECT_TRUE(call->stream);
  EXPECT_EQ(FactsOf(call).model, "m");
  const auto lines =
      Lines(Answered(*call, {Accepted{}, ReasoningDelta{0, "hm", {}, {}}, TextDelta{0, "a", {}, {}, {}},
                             ToolCallDelta{0, 0, "t", "f", "{\"x\"", {}, {}},
                             ToolCallDelta{0, 0, "", "", ":1}", {}, {}}, kDone}));
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0].at("message").at("thinking"), "hm");
  EXPECT_EQ(lines[1].at("message").at("content"), "a");
  EXPECT_EQ(lines[1].at("done"), false);
  EXPECT_EQ(lines[1].at("model"), "m:latest");
  EXPECT_EQ(lines[1].at("created_at"), "1970-01-01T00:01:39Z");
  EXPECT_EQ(lines[2].at("message").at("tool_calls").at(0).at("function").at("arguments"),
            json::parse(R"({"x":1})"));
  EXPECT_EQ(lines[3].at("done"), true);
  EXPECT_EQ(lines[3].at("done_reason"), "stop");
  EXPECT_EQ(lines[3].at("eval_count"), 5);
  EXPECT_EQ(lines[3].at("prompt_eval_count"), 7);
  EXPECT_EQ(lines[3].at("total_duration"), 13'000'000);
  EXPECT_EQ(lines[3].at("eval_duration"), 10'000'000);
}

TEST(OllamaTest, WholeChat) {
  const auto call =
      ParseChat(R"({"model":"m","stream":false,"messages":[{"role":"user","content":"hi"}]})", {});
  const json::value body =
      BodyOf(*call, {TextDelta{0, "a", {}, {}, {}}, TextDelta{0, "b", {}, {}, {}}, kDone});
  EXPECT_EQ(body.at("message").at("content"), "ab");
  EXPECT_EQ(body.at("done"), true);
}

TEST(OllamaTest, OptionsFormatThink) {
  const auto call =
      ParseChat(R"({"messages":[{"role":"user","content":"hi"}],"format":{"type":"object"},"think":true,
      "options":{"num_predict":4,"temperature":0,"top_k":3,"seed":9,"stop":["x"],"repeat_penalty":1.2,"num_ctx":4096}})",
                {});
  ASSERT_TRUE(call) << call.error().message;
  EXPECT_EQ(FactsOf(call).max_tokens, 4u);
  EXPECT_EQ(FactsOf(call).seed, 9);
  EXPECT_EQ(PartsOf(call).sampling.repetition_penalty, 1.2);
  EXPECT_EQ(PartsOf(call).template_kwargs_json, R"({"enable_thinking":true})");
  EXPECT_TRUE(FactsOf(call).needs & kCapJsonSchema);
  EXPECT_FALSE(
      FactsOf(ParseChat(R"({"messages":[{"role":"user","content":"hi"}],"options":{"num_predict":-1}})", {}))
          .max_tokens);
  EXPECT_EQ(
      ParseChat(R"({"messages":[{"role":"user","content":"hi"}],"options":{"top_p":3}})", {}).error().param,
      "options.top_p");
}

TEST(OllamaTest, ToolHistoryGetsIds) {
  const auto call = ParseChat(R"({"messages":[{"role":"user","content":"q"},
      {"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}},{"function":{"name":"g","arguments":{}}}]},
      {"role":"tool","tool_name":"g","content":"two"},{"role":"tool","content":"one"}]})",
                              {});
  ASSERT_TRUE(call) << call.error().message;
  const json::value messages = json::parse(PartsOf(call).messages_json);
  EXPECT_EQ(messages.at(1).at("tool_calls").at(0).at("function").at("arguments"), "{\"a\":1}");
  EXPECT_EQ(messages.at(2).at("tool_call_id"), messages.at(1).at("tool_calls").at(1).at("id"));
  EXPECT_EQ(messages.at(3).at("tool_call_id"), messages.at(1).at("tool_calls").at(0).at("id"));
}

TEST(OllamaTest, Generate) {
  const auto call = ParseGenerate(R"({"model":"m","prompt":"p","system":"s"})", {});
  EXPECT_EQ(PartsOf(call).messages_json,
            R"([{"role":"system","content":"s"},{"role":"user","content":"p"}])");
  EXPECT_EQ(Lines(Answered(*call, {TextDelta{0, "a", {}, {}, {}}, kDone}))[0].at("response"), "a");
  EXPECT_EQ(FactsOf(ParseGenerate(R"({"prompt":"p","raw":true})", {})).kind, Kind::kText);
  EXPECT_EQ(PartsOf(ParseGenerate(R"({"prompt":"p","suffix":"z"})", {})).suffix, "z");
  const auto load = ParseGenerate(R"({"model":"m"})", {});
  EXPECT_EQ(FactsOf(load).max_tokens, 0u);
  EXPECT_EQ(BodyOf(*load, {kDone}).at("done_reason"), "load");
}

TEST(OllamaTest, Embeddings) {
  const auto call = ParseEmbed(R"({"model":"m","input":["a","b"]})", {});
  const json::value body = BodyOf(*call, {Values{1, {2}}, Values{0, {1}}, kDone});
  EXPECT_EQ(body.at("embeddings"), json::parse("[[1],[2]]"));
  EXPECT_EQ(body.at("prompt_eval_count"), 7);
  EXPECT_EQ(BodyOf(*ParseOldEmbeddings(R"({"prompt":"a"})", {}), {Values{0, {1}}, kDone}),
            json::parse(R"({"embedding":[1]})"));
  EXPECT_FALSE(ParseEmbed(R"({"input":[]})", {}));
}

TEST(OllamaTest, FailureMidStreamIsALine) {
  const auto lines =
      Lines(Answered(*ParseChat(kChat, {}), {TextDelta{0, "a", {}, {}, {}}}, Unavailable("gone")));
  EXPECT_EQ(lines.back(), json::parse(R"({"error":"gone"})"));
}

TEST(OllamaTest, Models) {
  Snapshot snapshot;
  snapshot.models = {{.id = "m",
                      .engine = "llama_cpp",
                      .state = ModelState::kReady,
                      .max_model_len = 2048,
                      .capabilities = kCapChat | kCapTools,
                      .digest = "d"}};
  EXPECT_EQ(json::parse(TagsBody(snapshot)).at("models").at(0).at("name"), "m");
  EXPECT_EQ(json::parse(RunningBody(snapshot)).at("models").at(0).at("digest").as_string().size(), 64u);
  snapshot.models.push_back({.id = "not-loaded-yet", .engine = "llama_cpp"});
  const json::value tags = json::parse(TagsBody(snapshot));
  EXPECT_EQ(tags.at("models").at(1).at("digest").as_string().size(), 64u);
  EXPECT_NE(tags.at("models").at(0).at("digest"), tags.at("models").at(1).at("digest"));
  snapshot.models.pop_back();
  const json::value show = json::parse(*ShowBody(snapshot, R"({"model":"m:latest"})"));
  EXPECT_EQ(show.at("capabilities"), json::parse(R"(["completion","tools"])"));
  EXPECT_EQ(show.at("model_info").at("llama_cpp.context_length"), 2048);
  EXPECT_EQ(ShowBody(snapshot, R"({"model":"x"})").error().code, Code::kNotFound);
}

}  // namespace
}  // namespace cyllm::ollama
