#include "gateway/dialects/anthropic/anthropic.h"

#include <gmock/gmock.h>

#include "gateway/dialects/common/test_util.h"

namespace cyllm::anthropic {
namespace {

namespace json = boost::json;
using dialect::Answered;
using dialect::BodyOf;
using dialect::FactsOf;
using dialect::PartsOf;
using dialect::SseEvents;
using testing::ElementsAre;

Result<dialect::Call> Parse(const std::string& fields) {
  return ParseMessages(R"({"model":"m","max_tokens":9,)" + fields + "}", {});
}

constexpr char kHi[] = R"("messages":[{"role":"user","content":"hi"}])";

std::vector<std::string> Names(const std::vector<dialect::SseEvent>& events) {
  std::vector<std::string> names;
  for (const auto& event : events) {
    EXPECT_EQ(event.name, event.data.at("type").as_string());
    names.push_back(event.name);
  }
  return names;
}

TEST(AnthropicTest, MessagesBecomeOpenAis) {
  const auto call =
      Parse(R"("system":[{"type":"text","text":"x-anthropic-billing-header: a=1\nBe short."}],"messages":[
      {"role":"user","content":"q"},
      {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"let me see"},
        {"type":"tool_use","id":"t1","name":"f","input":{"a":1}}]},
      {"role":"user","content":[{"type":"text","text":"and"},{"type":"tool_result","tool_use_id":"t1","content":
        [{"type":"text","text":"42"}]}]}])");
  ASSERT_TRUE(call) << call.error().message;
  EXPECT_EQ(json::parse(PartsOf(call).messages_json), json::parse(R"([
      {"role":"system","content":"Be short."},{"role":"user","content":"q"},
      {"role":"assistant","content":"let me see","reasoning_content":"hm","tool_calls":
        [{"id":"t1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},
      {"role":"tool","tool_call_id":"t1","content":"42"},{"role":"user","content":"and"}])"));
  EXPECT_EQ(FactsOf(call).max_tokens, 9u);
}

TEST(AnthropicTest, ToolsAndChoice) {
  const auto call =
      Parse(std::string(kHi) + R"(,"tools":[{"name":"f","description":"d","input_schema":{"type":"object"}},
      {"type":"web_search_20250305","name":"web_search"}],"tool_choice":{"type":"tool","name":"f","disable_parallel_tool_use":true})");
  ASSERT_TRUE(call) << call.error().message;
  EXPECT_EQ(
      json::parse(PartsOf(call).tools_json),
      json::parse(
          R"([{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}])"));
  EXPECT_EQ(PartsOf(call).tool_choice_json, R"({"type":"function","function":{"name":"f"}})");
  EXPECT_FALSE(PartsOf(call).parallel_tool_calls);
  EXPECT_EQ(PartsOf(Parse(std::string(kHi) + R"(,"tools":[{"name":"f"}],"tool_choice":{"type":"any"})"))
                .tool_choice_json,
            R"("required")");
}

TEST(AnthropicTest, MistakesNameTheField) {
  const std::pair<const char*, const char*> kTable[] = {
      {R"("messages":[])", "messages"},
      {R"("messages":[{"role":"tool","content":"x"}])", "messages[0].role"},
      {R"("messages":[{"role":"user"}])", "messages[0].content"},
      {R"("messages":[{"role":"user","content":[{"type":"image"}]}])", "messages[0].content[0]"},
      {R"("messages":[{"role":"user","content":[{"type":"tool_use"}]}])", "messages[0].content[0].type"},
      {R"("messages":[{"role":"user","content":[{"type":"tool_result"}]}])",
       "messages[0].content[0].tool_use_id"},
      {R"("messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"x"})", "tool_choice.type"},
      {R"("messages":[{"role":"user","content":"x"}],"thinking":{"type":"x"})", "thinking.type"},
  };
  for (const auto& [fields, param] : kTable) {
    const auto call = Parse(fields);
    ASSERT_FALSE(call) << fields;
    EXPECT_EQ(call.error().param, param);
  }
  EXPECT_EQ(ParseMessages(std::string("{") + kHi + "}", {}).error().param, "max_tokens");
  EXPECT_FALSE(ParseMessages(std::string(R"({"max_tokens":-1,)") + kHi + "}", {}));
}

TEST(AnthropicTest, WholeMessage) {
  const auto call = Parse(kHi);
  const json::value body =
      BodyOf(*call, {Accepted{7, 2, "w"}, ReasoningDelta{0, "hm", {}, {}}, TextDelta{0, "Hel", {}, {}, {}},
                     TextDelta{0, "lo", {}, {}, {}}, ToolCallDelta{0, 0, "t1", "f", "{\"a\":", {}, {}},
                     ToolCallDelta{0, 0, "", "", "1}", {}, {}},
                     Finished{0, FinishReason::kToolCalls, "", {7, 2, 5, 0}, {}}});
  EXPECT_EQ(body.at("type"), "message");
  EXPECT_EQ(body.at("content"), json::parse(R"([{"type":"thinking","thinking":"hm","signature":""},
      {"type":"text","text":"Hello"},{"type":"tool_use","id":"t1","name":"f","input":{"a":1}}])"));
  EXPECT_EQ(body.at("stop_reason"), "tool_use");
  EXPECT_TRUE(body.at("stop_sequence").is_null());
  EXPECT_EQ(body.at("usage").at("input_tokens"), 5);
  EXPECT_EQ(body.at("usage").at("cache_read_input_tokens"), 2);
  EXPECT_EQ(body.at("usage").at("output_tokens"), 5);
}

TEST(AnthropicTest, StopReasons) {
  const std::tuple<FinishReason, const char*, const char*> kTable[] = {
      {FinishReason::kStop, "", "end_turn"},
      {FinishReason::kStop, "END", "stop_sequence"},
      {FinishReason::kLength, "", "max_tokens"},
      {FinishReason::kContentFilter, "", "refusal"}};
  for (const auto& [reason, match, name] : kTable) {
    const json::value body = BodyOf(*Parse(kHi), {Finished{0, reason, match, {}, {}}});
    EXPECT_EQ(body.at("stop_reason"), name);
    if (*match) EXPECT_EQ(body.at("stop_sequence"), match);
  }
}

TEST(AnthropicTest, StreamOfThinkingTextAndTools) {
  const auto call = Parse(std::string(R"("stream":true,)") + kHi);
  const auto events = SseEvents(Answered(
      *call, {Accepted{7, 0, "w"}, ReasoningDelta{0, "hm", {}, {}}, TextDelta{0, "a", {}, {}, {}},
              TextDelta{0, "b", {}, {}, {}}, ToolCallDelta{0, 0, "t1", "f", "", {}, {}},
              ToolCallDelta{0, 0, "", "", "{}", {}, {}}, ToolCallDelta{0, 1, "t2", "g", "{}", {}, {}},
              Finished{0, FinishReason::kToolCalls, "", {7, 0, 5, 0}, {}}}));
  EXPECT_THAT(Names(events), ElementsAre("message_start", "content_block_start", "content_block_delta",
                                         "content_block_delta", "content_block_stop", "content_block_start",
                                         "content_block_delta", "content_block_delta", "content_block_stop",
                                         "content_block_start", "content_block_delta", "content_block_stop",
                                         "content_block_start", "content_block_delta", "content_block_stop",
                                         "message_delta", "message_stop"));
  EXPECT_EQ(events[0].data.at("message").at("usage").at("input_tokens"), 7);
  EXPECT_EQ(events[3].data.at("delta").at("type"), "signature_delta");
  EXPECT_EQ(events[9].data.at("index"), 2);
  EXPECT_EQ(events[9].data.at("content_block"),
            json::parse(R"({"type":"tool_use","id":"t1","name":"f","input":{}})"));
  EXPECT_EQ(events[10].data.at("delta"), json::parse(R"({"type":"input_json_delta","partial_json":"{}"})"));
  EXPECT_EQ(events[12].data.at("index"), 3);
  EXPECT_EQ(events[15].data.at("delta").at("stop_reason"), "tool_use");
  EXPECT_EQ(events[15].data.at("usage").at("output_tokens"), 5);
}

TEST(AnthropicTest, FailureMidStream) {
  const auto call = Parse(std::string(R"("stream":true,)") + kHi);
  const auto events = SseEvents(Answered(*call, {Accepted{}}, Unavailable("gone")));
  EXPECT_THAT(Names(events), ElementsAre("message_start", "error"));
  EXPECT_EQ(events[1].data.at("error"), json::parse(R"({"type":"overloaded_error","message":"gone"})"));
}

TEST(AnthropicTest, Errors) {
  dialect::ApiError error = dialect::FromStatus(Unavailable("busy"));
  const json::value body = json::parse(kDialect.error_body(error, "req-1"));
  EXPECT_EQ(error.http, 529);
  EXPECT_EQ(
      body,
      json::parse(
          R"({"type":"error","error":{"type":"overloaded_error","message":"busy"},"request_id":"req-1"})"));
  error = dialect::FromStatus(MakeStatus(Code::kNotFound, "m"));
  EXPECT_EQ(json::parse(kDialect.error_body(error, "")).at("error").at("type"), "not_found_error");
}

TEST(AnthropicTest, TheContextIsExceededInAnthropicsWords) {
  dialect::ApiError error = dialect::FromStatus(InvalidArgument(
      "The maximum context length is 8 tokens; it has 9", "messages", "context_length_exceeded"));
  const json::value body = json::parse(kDialect.error_body(error, ""));
  EXPECT_THAT(std::string(body.at("error").at("message").as_string()),
              testing::StartsWith("prompt is too long: 9 tokens > 8 maximum. The maximum"));
  EXPECT_EQ(body.at("error").at("type"), "invalid_request_error");
}

TEST(AnthropicTest, CountTokens) {
  const auto call = ParseCountTokens(std::string("{") + kHi + "}", {});
  ASSERT_TRUE(call) << call.error().message;
  EXPECT_EQ(FactsOf(call).max_tokens, 0u);
  EXPECT_EQ(BodyOf(*call, {Accepted{12, 0, "w"}, Finished{0, FinishReason::kLength, "", {12, 0, 0, 0}, {}}}),
            json::parse(R"({"input_tokens":12})"));
}

}  // namespace
}  // namespace cyllm::anthropic
