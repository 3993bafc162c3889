#include "gateway/dialects/responses/responses.h"

#include <gmock/gmock.h>

#include "gateway/dialects/common/test_util.h"

namespace cyllm::responses {
namespace {

namespace json = boost::json;
using dialect::Answered;
using dialect::BodyOf;
using dialect::FactsOf;
using dialect::PartsOf;
using dialect::SseEvents;
using testing::ElementsAre;

const Finished kDone{0, FinishReason::kStop, "", {7, 2, 5, 1}, {}};

TEST(ResponsesTest, ItemsBecomeMessages) {
  const auto call = Parse(R"({"model":"m","instructions":"i","input":[
      {"role":"developer","content":"d"},
      {"type":"message","role":"user","content":[{"type":"input_text","text":"q"}]},
      {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}]},
      {"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},
      {"type":"function_call","call_id":"c2","name":"g","arguments":"{}"},
      {"type":"web_search_call","id":"x"},
      {"type":"function_call_output","call_id":"c1","output":"1"},
      {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"2"}]}]})",
                          {});
  ASSERT_TRUE(call) << call.error().message;
  EXPECT_EQ(json::parse(PartsOf(call).messages_json), json::parse(R"([
      {"role":"system","content":"i\n\nd"},{"role":"user","content":"q"},
      {"role":"assistant","content":"","reasoning_content":"hm","tool_calls":[
        {"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}},
        {"id":"c2","type":"function","function":{"name":"g","arguments":"{}"}}]},
      {"role":"tool","tool_call_id":"c1","content":"1"},{"role":"tool","tool_call_id":"c2","content":"2"}])"));
}

TEST(ResponsesTest, ToolsThatAServerRunsAreSkipped) {
  const auto call = Parse(
      R"({"input":"q","tools":[{"type":"web_search"},{"type":"function","name":"f","parameters":{},"strict":true},
      {"type":"local_shell"}],"tool_choice":{"type":"function","name":"f"}})",
      {});
  ASSERT_TRUE(call) << call.error().message;
  EXPECT_EQ(PartsOf(call).tools_json,
            R"([{"type":"function","function":{"name":"f","parameters":{},"strict":true}}])");
  EXPECT_EQ(PartsOf(call).tool_choice_json, R"({"type":"function","function":{"name":"f"}})");
  EXPECT_EQ(
      PartsOf(
          Parse(R"({"input":"q","tools":[{"type":"web_search"}],"tool_choice":{"type":"web_search"}})", {}))
          .tools_json,
      "");
}

TEST(ResponsesTest, FormatIsFlat) {
  const auto call = Parse(
      R"({"input":"q","text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true}}})",
      {});
  ASSERT_TRUE(call) << call.error().message;
  EXPECT_EQ(
      json::parse(PartsOf(call).response_format_json),
      json::parse(
          R"({"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"},"strict":true}})"));
}

TEST(ResponsesTest, Mistakes) {
  const std::pair<const char*, const char*> kTable[] = {
      {"{}", "input"},
      {R"({"input":[]})", "input"},
      {R"({"input":"q","previous_response_id":"resp_1"})", "previous_response_id"},
      {R"({"input":"q","conversation":"c"})", "conversation"},
      {R"({"input":[{"type":"item_reference","id":"x"}]})", "input[0]"},
      {R"({"input":[{"role":"user","content":[{"type":"input_image"}]}]})", "input[0].content[0]"},
      {R"({"input":[{"type":"function_call","call_id":"c","name":"f"}]})", "input[0].arguments"},
      {R"({"input":"q","max_output_tokens":0})", "max_output_tokens"},
      {R"({"input":"q","text":{"format":{"type":"json_schema"}}})", "text.format.schema"},
  };
  for (const auto& [body, param] : kTable) {
    const auto call = Parse(body, {});
    ASSERT_FALSE(call) << body;
    EXPECT_EQ(call.error().param, param);
  }
  EXPECT_EQ(Parse(R"({"input":"q","previous_response_id":"r"})", {}).error().reason, "unsupported");
}

TEST(ResponsesTest, WholeResponse) {
  const auto call =
      Parse(R"({"model":"m","input":"q","temperature":0.5,"metadata":{"k":"v"},"max_output_tokens":8})", {});
  const json::value body =
      BodyOf(*call, {Accepted{}, ReasoningDelta{0, "hm", {}, {}}, TextDelta{0, "Hi", {}, {}, {}}, kDone});
  for (const char* key :
       {"id", "object", "created_at", "status", "error", "incomplete_details", "instructions", "metadata",
        "model", "output", "parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p", "usage"})
    EXPECT_TRUE(body.as_object().contains(key)) << key;
  EXPECT_EQ(body.at("status"), "completed");
  EXPECT_EQ(body.at("temperature"), 0.5);
  EXPECT_EQ(body.at("metadata").at("k"), "v");
  EXPECT_EQ(body.at("max_output_tokens"), 8);
  EXPECT_EQ(body.at("output").at(0).at("type"), "reasoning");
  EXPECT_EQ(body.at("output").at(1).at("content").at(0),
            json::parse(R"({"type":"output_text","annotations":[],"logprobs":[],"text":"Hi"})"));
  EXPECT_EQ(body.at("usage"), json::parse(R"({"input_tokens":7,"input_tokens_details":{"cached_tokens":2},
      "output_tokens":5,"output_tokens_details":{"reasoning_tokens":1},"total_tokens":12})"));
}

TEST(ResponsesTest, TheLimitIsIncomplete) {
  const json::value body =
      BodyOf(*Parse(R"({"input":"q"})", {}), {Finished{0, FinishReason::kLength, "", {}, {}}});
  EXPECT_EQ(body.at("status"), "incomplete");
  EXPECT_EQ(body.at("incomplete_details").at("reason"), "max_output_tokens");
}

TEST(ResponsesTest, StreamOrder) {
  const auto call = Parse(R"({"input":"q","stream":true})", {});
  const auto events = SseEvents(
      Answered(*call, {Accepted{}, TextDelta{0, "H", {}, {}, {}}, TextDelta{0, "i", {}, {}, {}},
                       ToolCallDelta{0, 0, "c1", "f", "{", {}, {}}, ToolCallDelta{0, 0, "", "", "}", {}, {}},
                       Finished{0, FinishReason::kToolCalls, "", {7, 0, 5, 0}, {}}}));
  std::vector<std::string> names;
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].name, events[i].data.at("type").as_string());
    EXPECT_EQ(events[i].data.at("sequence_number").to_number<size_t>(), i);
    names.push_back(events[i].name.substr(9));
  }
  EXPECT_THAT(names, ElementsAre("created", "in_progress", "output_item.added", "content_part.added",
                                 "output_text.delta", "output_text.delta", "output_text.done",
                                 "content_part.done", "output_item.done", "output_item.added",
                                 "function_call_arguments.delta", "function_call_arguments.delta",
                                 "function_call_arguments.done", "output_item.done", "completed"));
  EXPECT_EQ(events[6].data.at("text"), "Hi");
  EXPECT_EQ(events[4].data.at("item_id"), events[2].data.at("item").at("id"));
  EXPECT_EQ(events[9].data.at("output_index"), 1);
  EXPECT_EQ(events[12].data.at("arguments"), "{}");
  EXPECT_EQ(events[14].data.at("response").at("output").as_array().size(), 2u);
  EXPECT_EQ(events[14].data.at("response").at("usage").at("total_tokens"), 12);
}

TEST(ResponsesTest, LogprobsWhereAskedFor) {
  const auto of = [](const char* body) {
    const auto call = Parse(body, {});
    EXPECT_TRUE(call) << body;
    const Sampling& sampling = PartsOf(call).sampling;
    EXPECT_EQ((FactsOf(call).needs & kCapLogprobs) != 0, sampling.logprobs) << body;
    return std::pair(sampling.logprobs, sampling.top_logprobs);
  };
  EXPECT_EQ(of(R"({"input":"q"})"), std::pair(false, 0u));
  EXPECT_EQ(of(R"({"input":"q","include":["reasoning.encrypted_content",1],"top_logprobs":0})"),
            std::pair(false, 0u));
  EXPECT_EQ(of(R"({"input":"q","include":["message.output_text.logprobs"]})"), std::pair(true, 0u));
  EXPECT_EQ(of(R"({"input":"q","top_logprobs":3})"), std::pair(true, 3u));
  EXPECT_EQ(Parse(R"({"input":"q","top_logprobs":21})", {}).error().param, "top_logprobs");
  EXPECT_EQ(Parse(R"({"input":"q","include":"x"})", {}).error().param, "include");
}

TEST(ResponsesTest, LogprobsInBodyAndEvents) {
  const TokenLogprob h{1, "H", -0.5, {{1, "H", -0.5, {}}, {2, "h", -1, {}}}}, half{3, "\xc3", -1, {}},
      rest{4, "\xa9", -2, {}}, end{5, "", -3, {}};
  const Batch events = {Accepted{},
                        TextDelta{0, "H", {1}, {h}, {}},
                        TextDelta{0, "", {3}, {half}, {}},
                        TextDelta{0, "\u00e9", {4}, {rest}, {}},
                        TextDelta{0, "", {5}, {end}, {}},
                        kDone};
  const auto stream =
      SseEvents(Answered(*Parse(R"({"input":"q","top_logprobs":2,"stream":true})", {}), events));
  ASSERT_EQ(stream.size(), 10u);
  const json::value first = json::parse(R"([{"token":"H","logprob":-0.5,"bytes":[72],"top_logprobs":[
      {"token":"H","logprob":-0.5,"bytes":[72]},{"token":"h","logprob":-1,"bytes":[104]}]}])");
  EXPECT_EQ(stream[4].data.at("logprobs"), first);
  EXPECT_EQ(stream[5].data.at("logprobs").as_array().size(),
            2u);  // a token that showed nothing goes with the next
  const json::value all = stream[6].data.at("logprobs");
  ASSERT_EQ(all.as_array().size(), 4u);
  EXPECT_EQ(all.at(2).at("bytes"), json::parse("[169]"));
  EXPECT_EQ(stream[7].data.at("part").at("logprobs"), all);
  const json::value& response = stream[9].data.at("response");
  EXPECT_EQ(response.at("output").at(0).at("content").at(0).at("logprobs"), all);
  EXPECT_EQ(response.at("top_logprobs"), 2);
  EXPECT_EQ(BodyOf(*Parse(R"({"input":"q","top_logprobs":2})", {}), events).at("output"),
            response.at("output"));
  // An engine that gives them unasked.
  EXPECT_TRUE(BodyOf(*Parse(R"({"input":"q"})", {}), events)
                  .at("output")
                  .at(0)
                  .at("content")
                  .at(0)
                  .at("logprobs")
                  .as_array()
                  .empty());
}

TEST(ResponsesTest, ThoughtsHaveAPartToo) {
  const auto call = Parse(R"({"input":"q","stream":true})", {});
  const auto events = SseEvents(Answered(*call, {Accepted{}, ReasoningDelta{0, "hm", {}, {}}, Finished{}}));
  std::vector<std::string> names;
  for (const auto& event : events) names.push_back(event.name.substr(9));
  EXPECT_THAT(names, ElementsAre("created", "in_progress", "output_item.added", "content_part.added",
                                 "reasoning_text.delta", "reasoning_text.done", "content_part.done",
                                 "output_item.done", "completed"));
  EXPECT_EQ(events[3].data.at("part"), (json::value{{"type", "reasoning_text"}, {"text", ""}}));
  EXPECT_EQ(events[6].data.at("part"), (json::value{{"type", "reasoning_text"}, {"text", "hm"}}));
}

TEST(ResponsesTest, WhatTheLimitCutsOffIsNotCompleted) {
  const Batch answer = {Accepted{}, ToolCallDelta{0, 0, "c1", "f", "{", {}, {}},
                        Finished{0, FinishReason::kLength, "", {}, {}}};
  const auto events = SseEvents(Answered(*Parse(R"({"input":"q","stream":true})", {}), answer));
  EXPECT_EQ(events.back().name, "response.incomplete");
  EXPECT_EQ(events[events.size() - 2].data.at("item").at("status"), "incomplete");
  const json::value body = BodyOf(*Parse(R"({"input":"q"})", {}), answer);
  EXPECT_EQ(body.at("output").at(0).at("status"), "incomplete");
}

TEST(ResponsesTest, ACallThatFailsIsNotDone) {
  const auto call = Parse(R"({"input":"q","stream":true})", {});
  const auto events = SseEvents(
      Answered(*call, {ToolCallDelta{0, 0, "c1", "f", "{\"cmd\":\"ls", {}, {}}}, Unavailable("gone")));
  EXPECT_EQ(events.back().name, "response.failed");
  EXPECT_TRUE(events.back().data.at("response").at("output").as_array().empty());
  for (const auto& event : events) EXPECT_FALSE(event.name.ends_with(".done")) << event.name;
}

TEST(ResponsesTest, FailureMidStream) {
  const auto call = Parse(R"({"input":"q","stream":true})", {});
  const auto events = SseEvents(Answered(*call, {TextDelta{0, "H", {}, {}, {}}}, Unavailable("gone")));
  EXPECT_EQ(events.back().name, "response.failed");
  EXPECT_EQ(events.back().data.at("response").at("status"), "failed");
  EXPECT_EQ(events.back().data.at("response").at("error"),
            json::parse(R"({"code":"unavailable","message":"gone"})"));
}

TEST(ResponsesTest, InputTokens) {
  const auto call = ParseInputTokens(R"({"input":"q","stream":true})", {});
  EXPECT_FALSE(call->stream);
  EXPECT_EQ(BodyOf(*call, {Accepted{9, 0, "w"}}),
            json::parse(R"({"object":"response.input_tokens","input_tokens":9})"));
}

}  // namespace
}  // namespace cyllm::responses
