#include "inference/legacy.h"

#include <gtest/gtest.h>

#include "inference/fake_service.h"

namespace cyllm::legacy {
namespace {

TEST(FlattenPrompt, OneUserMessageIsItself) {
  EXPECT_EQ(FlattenPrompt(R"([{"role":"user","content":"hé \"you\""}])"), "hé \"you\"");
  EXPECT_EQ(
      FlattenPrompt(R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}])"),
      "ab");
}

TEST(FlattenPrompt, ConversationsBecomeLabelledLines) {
  EXPECT_EQ(FlattenPrompt(R"([{"role":"system","content":"be kind"},{"role":"user","content":"hi"},
                              {"role":"assistant","content":"yes?"},{"role":"tool","content":"x"},
                              {"role":"user","content":"bye"}])"),
            "System: be kind\nUser: hi\nAssistant: yes?\nUser: bye\nAssistant:");
  EXPECT_EQ(FlattenPrompt("[]"), "Assistant:");
  EXPECT_EQ(FlattenPrompt("garbage"), "");
}

TEST(Request, OurFieldsSurviveAndOldPeersHaveTheirs) {
  Request request;
  request.facts.model = "m";
  request.facts.max_tokens = 0;
  request.facts.tenant = "t";
  PayloadParts parts;
  parts.messages_json = R"([{"role":"user","content":"hi"}])";
  parts.sampling.temperature = 0;
  request.payload = Payload::Of(parts);
  Context context;
  context.request_id = "trace";
  cy::llm::StreamPredictRequest message;
  ASSERT_TRUE(PutRequest(request, context, &message).ok());
  EXPECT_EQ(message.model_id(), "m");
  EXPECT_EQ(message.prompt(), "hi");
  EXPECT_EQ(message.metadata().trace_id(), "trace");
  const auto back = GetRequest(message, 50'000, Clock::now());
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->first.facts, request.facts);
  EXPECT_EQ(**back->first.payload->parts(), parts);
}

TEST(Request, AnOldPeersPromptIsOneUserMessage) {
  cy::llm::StreamPredictRequest message;
  message.set_prompt("say \"hé\"\n");
  message.set_priority(-2);
  message.mutable_generation()->set_max_new_tokens(5);
  message.mutable_metadata()->set_trace_id("t1");
  const auto request = GetRequest(message, 50'000, Clock::now());
  ASSERT_TRUE(request.has_value());
  const PayloadParts& parts = **request->first.payload->parts();
  EXPECT_EQ(parts.messages_json, R"([{"role":"user","content":"say \"hé\"\n"}])");
  EXPECT_FALSE(parts.sampling.temperature.has_value());
  EXPECT_EQ(request->first.facts.max_tokens, 5u);
  EXPECT_EQ(request->first.facts.priority, -2);
  EXPECT_EQ(request->second.request_id, "t1");
}

TEST(Request, BlankAndOverlongPromptsAreRefused) {
  cy::llm::StreamPredictRequest message;
  EXPECT_EQ(GetRequest(message, 10, Clock::now()).error().code, Code::kInvalidArgument);
  message.set_prompt(" \n");
  EXPECT_EQ(GetRequest(message, 10, Clock::now()).error().code, Code::kInvalidArgument);
  message.set_prompt("éééééééééé");  // ten characters, twenty bytes
  EXPECT_TRUE(GetRequest(message, 10, Clock::now()).has_value());
  message.set_prompt("ééééééééééé");
  EXPECT_EQ(GetRequest(message, 10, Clock::now()).error().code, Code::kInvalidArgument);
}

TEST(ResponseWriter, IndexesAreConsecutiveAndTheLastMessageIsEmpty) {
  const TimePoint start = Clock::now();
  ResponseWriter writer("trace", start);
  Batch events;
  events.push_back(Progress{Progress::Phase::kQueued, -1, {}});
  events.push_back(Progress{Progress::Phase::kLoading, 0.4f, {}});
  for (Event& event : TextAnswer({"a", "b"})) events.push_back(std::move(event));
  std::vector<cy::llm::StreamPredictResponse> seen;
  for (const Event& event : events) {
    cy::llm::StreamPredictResponse message;
    if (writer.Write(event, start + Millis(10), &message)) seen.push_back(message);
  }
  cy::llm::StreamPredictResponse last;
  writer.WriteEnd(start + Millis(30), &last);
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen[0].chunk(), "[模型加载] 40%\n");
  EXPECT_EQ(seen[1].chunk(), "a");
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(seen[i].index(), i);
    EXPECT_EQ(seen[i].trace_id(), "trace");
    EXPECT_FALSE(seen[i].end_of_stream());
  }
  EXPECT_TRUE(last.end_of_stream());
  EXPECT_EQ(last.index(), 3u);
  EXPECT_EQ(last.chunk(), "");
  EXPECT_FLOAT_EQ(last.ttft_ms(), 10);
  EXPECT_FLOAT_EQ(last.tokens_per_sec(), 100);
}

TEST(ResponseReader, OldMessagesBecomeEvents) {
  ResponseReader reader(7);
  Batch events;
  cy::llm::StreamPredictResponse message;
  message.set_chunk("[模型加载] 50%\n");
  ASSERT_TRUE(reader.Read(message, &events).ok());
  message.set_chunk("hello");
  ASSERT_TRUE(reader.Read(message, &events).ok());
  message.set_chunk("");
  message.set_end_of_stream(true);
  message.set_ttft_ms(12);
  ASSERT_TRUE(reader.Read(message, &events).ok());
  ASSERT_EQ(events.size(), 4u);
  EXPECT_TRUE(std::holds_alternative<Progress>(events[0]));
  EXPECT_EQ(std::get<Accepted>(events[1]).prompt_tokens, 7u);
  EXPECT_EQ(std::get<TextDelta>(events[2]).text, "hello");
  EXPECT_EQ(std::get<Finished>(events[3]).usage.completion_tokens, 1u);
  EXPECT_TRUE(reader.finished());
}

TEST(ResponseReader, AnUnconfiguredCoordinatorIsUnavailable) {
  ResponseReader reader(1);
  Batch events;
  cy::llm::StreamPredictResponse message;
  message.set_chunk("worker_not_configured");
  message.set_end_of_stream(true);
  EXPECT_EQ(reader.Read(message, &events).code, Code::kUnavailable);
}

TEST(FromPeer, BelievesWrappedCodesAndHidesReprs) {
  const Status wrapped =
      FromPeer(Code::kUnknown,
               "Unexpected <class 'grpc._channel._MultiThreadedRendezvous'>: <... \n\tstatus = "
               "StatusCode.NOT_FOUND\n\tdetails = "
               "\"Model 'x' not found in registry\"\n\tdebug_error_string = \"unix:/tmp/cy_worker.sock\">");
  EXPECT_EQ(wrapped.code, Code::kNotFound);
  EXPECT_EQ(wrapped.message, "Model 'x' not found in registry");
  const Status down =
      FromPeer(Code::kUnknown, "status = StatusCode.UNAVAILABLE\n details = \"connect /tmp/x.sock\"");
  EXPECT_EQ(down.code, Code::kUnavailable);
  EXPECT_TRUE(down.retryable);
  EXPECT_EQ(down.message.find("/tmp"), std::string::npos);
  EXPECT_EQ(FromPeer(Code::kInternal, "boom at /secret").message.find("secret"), std::string::npos);
}

}  // namespace
}  // namespace cyllm::legacy
