// Answers as servers give them. Those of vLLM are recorded (0.32, ids and times masked).
#include "upstream/openai/answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cyllm::upstream {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

constexpr TimePoint kStart{};
constexpr TimePoint kLater = kStart + Millis(20);

struct Read {
  Batch events;
  Status status;
  std::string detail;

  template <class T>
  std::vector<T> All() const {
    std::vector<T> out;
    for (const Event& event : events)
      if (const T* t = std::get_if<T>(&event)) out.push_back(*t);
    return out;
  }
  std::string text(uint32_t choice = 0) const {
    std::string out;
    for (const TextDelta& delta : All<TextDelta>())
      if (delta.choice == choice) out += delta.text;
    return out;
  }
};

Read Stream(const std::vector<std::string>& data, Kind kind = Kind::kChat, uint32_t choices = 1) {
  StreamAnswer answer({.kind = kind, .choices = choices, .worker = "w", .start = kStart});
  Read read;
  for (const std::string& event : data) {
    read.status = answer.OnData(event, kLater, read.events, &read.detail);
    if (!read.status.ok()) return read;
  }
  read.status = answer.OnEnd(read.events);
  return read;
}

const std::vector<std::string> kVllmChat = {
    R"({"id":"chatcmpl-x","object":"chat.completion.chunk","created":1,"model":"smol","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":[1,2,3],"prompt_text":null})",
    R"({"id":"chatcmpl-x","object":"chat.completion.chunk","created":1,"model":"smol","choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null,"token_ids":[19556]}]})",
    R"({"id":"chatcmpl-x","object":"chat.completion.chunk","created":1,"model":"smol","choices":[{"index":0,"delta":{"content":" How"},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":[1073]}]})",
    R"({"id":"chatcmpl-x","object":"chat.completion.chunk","created":1,"model":"smol","choices":[],"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":1}},"system_fingerprint":"vllm-0.32.0-b6122487"})",
    "[DONE]"};

Batch Verbatim(const std::vector<std::string>& data, AnswerOptions options = {}) {
  options.verbatim = true;
  StreamAnswer answer(std::move(options));
  Batch events;
  for (const std::string& event : data) EXPECT_TRUE(answer.OnData(event, kLater, events).ok()) << event;
  EXPECT_TRUE(answer.OnEnd(events).ok());
  return events;
}

std::vector<std::string> Chunks(const Batch& events) {
  std::vector<std::string> out;
  const auto add = [&](const auto& event) {
    if constexpr (requires { event.chunk; }) out.push_back(event.chunk);
  };
  for (const Event& event : events) std::visit(add, event);
  return out;
}

TEST(StreamAnswer, VllmChat) {
  const Read read = Stream(kVllmChat);
  ASSERT_TRUE(read.status.ok());
  ASSERT_THAT(read.events, SizeIs(4));
  EXPECT_EQ(std::get<Accepted>(read.events[0]), (Accepted{3, 0, "w"}));
  EXPECT_EQ(std::get<TextDelta>(read.events[1]), (TextDelta{0, "Hello", {19556}, {}, {1, 5, 0, 0}}));
  EXPECT_EQ(std::get<TextDelta>(read.events[2]), (TextDelta{0, " How", {1073}, {}, {2, 9, 0, 0}}));
  const Finished finished = std::get<Finished>(read.events[3]);
  EXPECT_EQ(finished.reason, FinishReason::kLength);
  EXPECT_EQ(finished.usage, (Usage{3, 1, 2, 0}));
  EXPECT_EQ(finished.timings.ttft_ms, 20);
}

TEST(StreamAnswer, TheUsageMayComeWithEveryChunkOrNever) {
  EXPECT_EQ(
      Stream(
          {R"({"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":4,"completion_tokens":1}})",
           R"({"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":4,"completion_tokens":2}})"})
          .All<Finished>()[0]
          .usage,
      (Usage{4, 0, 2, 0}));
  // Without: what was counted.
  EXPECT_EQ(
      Stream({R"({"choices":[{"delta":{"content":"a"}}]})", R"({"choices":[{"delta":{"content":"b"}}]})",
              R"({"choices":[{"delta":{},"finish_reason":"stop"}]})"})
          .All<Finished>()[0]
          .usage,
      (Usage{0, 0, 2, 0}));
}

TEST(StreamAnswer, AnErrorOnAStreamIsAnErrorAlthoughDoneFollows) {
  Read read =
      Stream({R"({"error":{"message":"queue full","type":"Service Unavailable","param":null,"code":503}})",
              "[DONE]"});
  EXPECT_THAT(read.events, SizeIs(0));  // a clean refusal
  EXPECT_EQ(read.status.code, Code::kUnavailable);
  EXPECT_EQ(read.status.reason, "overloaded");
  EXPECT_TRUE(read.status.retryable);
  EXPECT_EQ(read.detail, "queue full");

  read = Stream(
      {kVllmChat[0], kVllmChat[1],
       R"({"error": {"message": "EngineCore encountered an issue at /usr/lib/x.py", "type": "InternalServerError", "param": null, "code": 500}})",
       "[DONE]"});
  EXPECT_EQ(read.text(), "Hello");
  EXPECT_EQ(read.status.code, Code::kInternal);
  EXPECT_EQ(read.status.message.find("/usr"), std::string::npos);  // for the log only
  EXPECT_NE(read.detail.find("/usr"), std::string::npos);
  EXPECT_EQ(Stream({R"({"error":"Unauthorized"})"}).status.code, Code::kInternal);
}

TEST(StreamAnswer, AnAnswerWithoutItsEndHasFailed) {
  for (const auto& data : std::vector<std::vector<std::string>>{
           {}, {"[DONE]"}, {kVllmChat[0], kVllmChat[1]}, {kVllmChat[0], kVllmChat[1], "[DONE]"}}) {
    const Read read = Stream(data);
    EXPECT_EQ(read.status.reason, "upstream_died");
    EXPECT_TRUE(read.status.retryable);
    EXPECT_THAT(read.All<Finished>(), SizeIs(0));
  }
  EXPECT_FALSE(Stream({kVllmChat[0], kVllmChat[2]}, Kind::kChat, 2).status.ok());  // of one of two choices
  EXPECT_FALSE(Stream({R"({"choices":[{"index":0,"delta":{},"finish_reason":"abort"}]})"}).status.ok());
}

TEST(StreamAnswer, GarbageIsNoAnswer) {
  for (const char* data :
       {"", "{", "[]", "7", "{}", R"({"choices":7})", R"({"choices":[7]})",
        R"({"choices":[{"index":1,"delta":{}}]})", R"({"choices":[{"index":-1,"delta":{}}]})",
        R"({"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"x"}}]}}]})",
        R"({"choices":[{"delta":{"tool_calls":[{"index":1000000,"function":{"name":"x"}}]}}]})"})
    EXPECT_EQ(Stream({data}).status.reason, "upstream_garbage") << data;
}

TEST(StreamAnswer, StopStringsHoldTextBack) {
  // Tokens come with empty text, then text without a token that made it.
  const Read read = Stream(
      {kVllmChat[0],
       R"({"choices":[{"index":0,"delta":{"content":""},"finish_reason":null,"token_ids":[19556]}]})",
       R"({"choices":[{"index":0,"delta":{"content":"Hell"},"finish_reason":null,"token_ids":[17]}]})",
       R"({"choices":[{"index":0,"delta":{"content":"o!"},"finish_reason":"stop","stop_reason":" How","token_ids":[1073]}]})"});
  ASSERT_TRUE(read.status.ok());
  EXPECT_EQ(read.text(), "Hello!");
  EXPECT_EQ(read.All<TextDelta>()[0], (TextDelta{0, "", {19556}, {}, {1, 0, 0, 0}}));
  EXPECT_EQ(read.All<Finished>()[0].stop_match, " How");
}

TEST(StreamAnswer, ToolCallsAsVllmStreamsThem) {
  const Read read = Stream(
      {kVllmChat[0],
       R"({"choices":[{"index":0,"delta":{"tool_calls":[{"id":"chatcmpl-tool-1","type":"function","index":0,"function":{"name":"weather"}}]},"logprobs":null,"finish_reason":null,"token_ids":null}]})",
       R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\": "}}]},"finish_reason":null,"token_ids":null}]})",
       R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Paris\"}"}}]},"finish_reason":null,"token_ids":null}]})",
       R"({"choices":[{"index":0,"delta":{},"finish_reason":"stop","token_ids":null}]})"});
  ASSERT_TRUE(read.status.ok());
  const auto calls = read.All<ToolCallDelta>();
  ASSERT_THAT(calls, SizeIs(3));
  EXPECT_EQ(calls[0].id, "chatcmpl-tool-1");
  EXPECT_EQ(calls[0].name, "weather");
  EXPECT_EQ(calls[1].id + calls[1].name, "");
  EXPECT_EQ(calls[0].arguments + calls[1].arguments + calls[2].arguments, R"({"city": "Paris"})");
  EXPECT_EQ(calls[2].end.tool_argument_bytes, 17u);
  EXPECT_EQ(read.All<Finished>()[0].reason, FinishReason::kToolCalls);  // a named tool ends with `stop`
}

TEST(StreamAnswer, ToolCallsOfOtherServers) {
  // Everything repeated, no index, arguments as an object; two calls in one chunk.
  const Read read = Stream(
      {R"({"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{"}}]}}]})",
       R"({"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"}"}},{"id":"b","function":{"name":"g","arguments":{"x":1}}}]}}]})",
       R"({"choices":[{"delta":{},"finish_reason":"tool_calls"}]})"});
  ASSERT_TRUE(read.status.ok());
  const auto calls = read.All<ToolCallDelta>();
  ASSERT_THAT(calls, SizeIs(3));
  EXPECT_EQ(calls[0].name + calls[1].name + calls[2].name, "fg");
  EXPECT_EQ(calls[1].index, 0u);
  EXPECT_EQ(calls[2].index, 1u);
  EXPECT_EQ(calls[2].arguments, R"({"x":1})");
}

TEST(StreamAnswer, Reasoning) {
  const Read read = Stream(
      {R"({"choices":[{"delta":{"reasoning_content":"hm"}}]})",
       R"({"choices":[{"delta":{"reasoning":"so"}}]})",
       R"({"choices":[{"delta":{"content":"x","reasoning":null}}]})",
       R"({"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":3,"completion_tokens_details":{"reasoning_tokens":2}}})"});
  ASSERT_TRUE(read.status.ok());
  ASSERT_THAT(read.All<ReasoningDelta>(), SizeIs(2));
  EXPECT_EQ(read.All<ReasoningDelta>()[1].end, (Offsets{2, 0, 4, 0}));
  EXPECT_EQ(read.All<Finished>()[0].usage.reasoning_tokens, 2u);
}

TEST(StreamAnswer, Logprobs) {
  const Read read = Stream(
      {R"({"choices":[{"delta":{"content":"Hi"},"token_ids":[7],"logprobs":{"content":[{"token":"Hi","logprob":-0.5,"bytes":[72,105],"top_logprobs":[{"token":"Hi","logprob":-0.5,"bytes":[72,105]},{"token":"x","logprob":-2,"bytes":null}]}]}}]})",
       R"({"choices":[{"delta":{},"finish_reason":"stop"}]})"});
  const TokenLogprob token = read.All<TextDelta>()[0].logprobs.at(0);
  EXPECT_EQ(token.token_id, 7);
  EXPECT_EQ(token.bytes, "Hi");
  EXPECT_EQ(token.logprob, -0.5f);
  ASSERT_THAT(token.top, SizeIs(2));
  EXPECT_EQ(token.top[1].bytes, "x");
}

TEST(StreamAnswer, Completions) {
  const Read read = Stream(
      {R"({"choices":[{"index":1,"text":"b","logprobs":null,"finish_reason":"length","prompt_token_ids":[1,2],"token_ids":[8,9]}]})",
       R"({"choices":[{"index":0,"text":"a","logprobs":{"tokens":["a"],"token_logprobs":[-1],"top_logprobs":[{"z":-3,"a":-1}],"text_offset":[0]},"finish_reason":"length","token_ids":[5]}]})",
       R"({"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":3}})"},
      Kind::kText, 2);
  ASSERT_TRUE(read.status.ok());
  EXPECT_EQ(std::get<Accepted>(read.events[0]).prompt_tokens, 2u);
  EXPECT_EQ(read.text(0) + read.text(1), "ab");
  const std::vector<TokenLogprob> logprobs = read.All<TextDelta>()[1].logprobs;
  ASSERT_THAT(logprobs, SizeIs(1));
  EXPECT_EQ(logprobs[0].top[0].bytes, "a");
  const auto finished = read.All<Finished>();
  EXPECT_EQ(finished[0].usage.completion_tokens, 1u);  // by its ids
  EXPECT_EQ(finished[1].usage.completion_tokens, 2u);
}

Read Whole(Kind kind, size_t inputs, std::string_view body) {
  Read read;
  read.status = ReadBody(kind, inputs, body, "w", read.events, &read.detail);
  return read;
}

TEST(ReadBody, Embeddings) {
  // 0.5 and -2 in little-endian float32: 0000003f 000000c0.
  const Read read = Whole(
      Kind::kEmbed, 2,
      R"({"data":[{"index":1,"embedding":"AAAAPwAAAMA="},{"index":0,"embedding":[1,0.25]}],"usage":{"prompt_tokens":5,"total_tokens":5}})");
  ASSERT_TRUE(read.status.ok());
  EXPECT_EQ(read.All<Values>()[0], (Values{1, {0.5f, -2.0f}}));
  EXPECT_EQ(read.All<Values>()[1], (Values{0, {1.0f, 0.25f}}));
  EXPECT_EQ(std::get<Accepted>(read.events.front()).prompt_tokens, 5u);
  EXPECT_EQ(std::get<Finished>(read.events.back()).usage, (Usage{5, 0, 0, 0}));
  for (const char* bad :
       {R"({"data":[]})", R"({"data":[{"index":0,"embedding":"AAAA"},{"index":1,"embedding":[]}]})",
        R"({"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]})",
        R"({"data":[{"index":5,"embedding":[1]}]})"})
    EXPECT_EQ(Whole(Kind::kEmbed, 2, bad).status.reason, "upstream_garbage") << bad;
}

TEST(ReadBody, Ranks) {
  const char* cohere =
      R"({"results":[{"index":1,"relevance_score":0.75},{"index":0,"relevance_score":0.5}],"usage":{"total_tokens":9}})";
  EXPECT_THAT(Whole(Kind::kRerank, 2, cohere).All<Values>(),
              ElementsAre(Values{1, {0.75f}}, Values{0, {0.5f}}));
  EXPECT_EQ(Whole(Kind::kRerank, 2, cohere).All<Finished>()[0].usage.prompt_tokens, 9u);
  EXPECT_THAT(Whole(Kind::kRerank, 1, R"([{"score":2,"document":"x","index":0}])").All<Values>(),
              ElementsAre(Values{0, {2.0f}}));
  EXPECT_FALSE(Whole(Kind::kRerank, 2, R"({"results":[{"index":1,"relevance_score":0.75}]})").status.ok());
}

TEST(ReadBody, Tokens) {
  EXPECT_EQ(Whole(Kind::kTokenize, 0, R"({"count":2,"max_model_len":9,"tokens":[4,5],"token_strs":null})")
                .All<TextDelta>()[0]
                .token_ids,
            (std::vector<int32_t>{4, 5}));
  EXPECT_EQ(Whole(Kind::kDetokenize, 0, R"({"prompt":"hi"})").text(), "hi");
  EXPECT_EQ(Whole(Kind::kDetokenize, 0, R"({"content":"hi"})").text(), "hi");
  EXPECT_FALSE(Whole(Kind::kTokenize, 0, R"({"tokens":["a"]})").status.ok());
  const auto pieces = Whole(Kind::kTokenize, 0, R"({"tokens":[{"id":4,"piece":"a"},{"id":5,"piece":[195]}]})")
                          .All<TextDelta>()[0];
  EXPECT_EQ(pieces.token_ids, (std::vector<int32_t>{4, 5}));
  EXPECT_EQ(pieces.logprobs.at(0).bytes + pieces.logprobs.at(1).bytes, "a\xc3");
  for (const char* wrong :
       {R"([{"id":4}])", R"([{"id":4,"piece":[256]}])", R"([{"piece":"a"}])", R"([{"id":4,"piece":"a"},5])"})
    EXPECT_FALSE(Whole(Kind::kTokenize, 0, std::string(R"({"tokens":)") + wrong + "}").status.ok()) << wrong;
  EXPECT_EQ(Whole(Kind::kTokenize, 0, R"({"error":{"message":"no","code":400}})").status.code,
            Code::kInvalidArgument);
}

// ---- chunks that go on as they came

TEST(Verbatim, VllmChat) {
  const Batch events = Verbatim(kVllmChat, {.hidden = {.token_ids = true}});
  EXPECT_THAT(
      Chunks(events),
      ElementsAre(
          R"("choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}])",
          R"("choices":[{"index":0,"delta":{"content":" How"},"logprobs":null,"finish_reason":null}])",
          R"("choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length","stop_reason":null}])"));
  EXPECT_EQ(
      std::get<Finished>(events.back()).usage_chunk,
      R"("choices":[],"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":1}},"system_fingerprint":"vllm-0.32.0-b6122487")");
  // The events are the same without.
  Batch typed = events;
  for (Event& event : typed) {
    std::visit(
        [](auto& e) {
          if constexpr (requires { e.chunk; }) e.chunk.clear();
          if constexpr (requires { e.usage_chunk; }) e.usage_chunk.clear();
        },
        event);
  }
  Batch plain = Stream(kVllmChat).events;
  for (Event& event : plain)
    if (auto* accepted = std::get_if<Accepted>(&event)) accepted->worker.clear();
  typed.pop_back(), plain.pop_back();  // with timings
  EXPECT_EQ(typed, plain);
}

TEST(Verbatim, WhatWeSayOtherwiseIsWrittenAnew) {
  const char* finish = R"({"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]})";
  for (
      const char* chunk : {
          R"({"choices":[{"index":0,"delta":{"reasoning":"hm"}}]})",                        // its name
          R"({"choices":[{"index":0,"delta":{"reasoning_content":"hm","content":"a"}}]})",  // two events
          R"({"choices":[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{}}]})",    // two choices
          R"({"choices":[{"index":0,"delta":{"tool_calls":[{"id":"c","type":"function","function":{"name":"f"}}]}}]})",
          R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"type":"function","function":{"name":"f"}}]}}]})",
          R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f"}}]}}]})",
          R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":{}}}]}}]})",
          "{\"choices\":[{\"index\":0,\n\"delta\":{\"content\":\"a\"}}]}",
      }) {
    StreamAnswer answer({.choices = 2, .verbatim = true});
    Batch events;
    ASSERT_TRUE(answer.OnData(chunk, kLater, events).ok()) << chunk;
    EXPECT_THAT(Chunks(events), testing::Each(std::string())) << chunk;
    EXPECT_GE(events.size(), 2u) << chunk;
  }
  // A forced call that ends with `stop`, and a name of the call that comes twice.
  const Batch events = Verbatim(
      {R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f"}}]}}]})",
       R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}}]})",
       finish});
  EXPECT_THAT(
      Chunks(events),
      ElementsAre(
          R"("choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f"}}]}}])",
          "", R"("choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}])"));
}

TEST(Verbatim, WhatNoEventSaysGoesOnTooAndCountsNothing) {
  const std::vector<std::string> refusal = {
      R"({"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null}}]})",
      R"({"choices":[{"index":0,"delta":{"refusal":"I will not."}}]})",
      R"({"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]})"};
  const Batch events = Verbatim(refusal);
  ASSERT_THAT(events, SizeIs(3));
  EXPECT_EQ(std::get<TextDelta>(events[1]),
            (TextDelta{0, "", {}, {}, {}, R"("choices":[{"index":0,"delta":{"refusal":"I will not."}}])"}));
  EXPECT_EQ(std::get<Finished>(events[2]).usage.completion_tokens, 0u);
  EXPECT_THAT(Stream(refusal).events, SizeIs(2));
}

TEST(Verbatim, UsageOfOneChoiceOnly) {
  const std::vector<std::string> two = {
      R"({"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]})",
      R"({"choices":[{"index":1,"delta":{"content":"a"},"finish_reason":"stop"}]})",
      R"({"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}})"};
  const Batch events = Verbatim(two, {.choices = 2});
  EXPECT_THAT(Chunks(events), testing::Each(testing::HasSubstr(R"("index":)")));
  EXPECT_EQ(std::get<Finished>(events.back()).usage_chunk, "");
  const Batch partial =
      Verbatim({R"({"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]})",
                R"({"choices":[],"usage":{"completion_tokens":2}})"});
  EXPECT_EQ(std::get<Finished>(partial.back()).usage_chunk, "");
}

}  // namespace
}  // namespace cyllm::upstream
