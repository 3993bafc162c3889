#include "gateway/dialects/legacy/legacy.h"

#include <gmock/gmock.h>

#include "gateway/dialects/common/test_util.h"

namespace cyllm::legacy {
namespace {

namespace json = boost::json;
using dialect::BodyOf;
using dialect::FactsOf;
using dialect::PartsOf;

TEST(LegacyTest, ItsDefaultsAndLimits) {
  const auto call = ParseInference(R"({"modelId":"m","prompt":"p","priority":3,"adapter":"a"})", {});
  ASSERT_TRUE(call) << call.error().message;
  EXPECT_EQ(PartsOf(call).messages_json, R"([{"role":"user","content":"p"}])");
  EXPECT_EQ(FactsOf(call).max_tokens, 512u);
  EXPECT_EQ(FactsOf(call).adapter, "a");
  EXPECT_EQ(PartsOf(call).sampling.temperature, 0.7);
  EXPECT_EQ(PartsOf(call).sampling.repetition_penalty, 1.05);
  for (const char* body :
       {R"({"modelId":"m"})", R"({"prompt":"p","generation":{"maxNewTokens":0}})",
        R"({"prompt":"p","generation":{"maxNewTokens":2049}})", R"({"prompt":"p","generation":{"topP":2}})"})
    EXPECT_FALSE(ParseInference(body, {})) << body;
  EXPECT_FALSE(ParseInference(R"({"prompt":")" + std::string(8001, 'x') + "\"}", {}));
}

TEST(LegacyTest, AnswersHaveTheFieldsOfBothVersions) {
  const auto call = ParseInference(R"({"modelId":"m","prompt":"p","metadata":{"traceId":"T"}})", {});
  const json::value body = BodyOf(*call, {TextDelta{0, "a", {}, {}, {}},
                                          Finished{0, FinishReason::kLength, "", {3, 0, 1, 0}, {0, 4, 6}}});
  EXPECT_EQ(body.at("traceId"), "T");
  EXPECT_EQ(body.at("content"), "a");
  EXPECT_EQ(body.at("latencyMillis"), 10);
  EXPECT_EQ(body.at("choices").at(0).at("text"), "a");
  EXPECT_EQ(body.at("choices").at(0).at("finish_reason"), "length");
  EXPECT_EQ(body.at("usage").at("total_tokens"), 4);
}

TEST(LegacyTest, Stream) {
  const auto call = ParseInferenceStream(R"({"modelId":"m","prompt":"p"})", {});
  std::string text =
      dialect::Answered(*call, {TextDelta{0, "é", {}, {}, {}}, TextDelta{0, "b", {}, {}, {}}, Finished{}});
  constexpr std::string_view kEnd = "data: [DONE]\n\n";
  ASSERT_TRUE(text.ends_with(kEnd));
  text.resize(text.size() - kEnd.size());
  const auto events = dialect::SseEvents(text);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].data.at("content"), "é");
  EXPECT_EQ(events[1].data.at("index"), 1);
  EXPECT_EQ(events[1].data.at("choices").at(0).at("offset"), 1);
  EXPECT_EQ(events[2].data.at("done"), true);
  EXPECT_EQ(events[2].data.at("choices").at(0).at("finish_reason"), "stop");
}

TEST(LegacyTest, Errors) {
  dialect::ApiError error = dialect::FromStatus(InvalidArgument("m", "prompt"));
  EXPECT_EQ(
      json::parse(kDialect.error_body(error, "")),
      json::parse(R"({"error":{"code":"INVALID_REQUEST","message":"m","details":[{"field":"prompt"}]}})"));
}

}  // namespace
}  // namespace cyllm::legacy
