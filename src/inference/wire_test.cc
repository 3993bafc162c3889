#include "inference/wire.h"

#include <gtest/gtest.h>

namespace cyllm {
namespace {

template <class Message, class T>
T RoundTrip(const T& value) {
  Message message;
  wire::Put(value, &message);
  Message read;
  EXPECT_TRUE(read.ParseFromString(message.SerializeAsString()));
  return wire::Get(read);
}

TEST(Wire, FactsSurvive) {
  RequestFacts facts;
  facts.kind = Kind::kTokens;
  facts.model = "m";
  facts.adapter = "a";
  facts.tenant = "t";
  facts.priority = -3;
  facts.prompt_tokens_estimate = 7;
  facts.max_tokens = 0;  // 0 is 0
  facts.choices = 4;
  facts.needs = kCapTools | kCapLogprobs;
  facts.prefix_hashes = {1, ~0ull};
  facts.seed = -1;
  facts.response_id = "chatcmpl-1";
  facts.resume = {2, {{{5, 6}, {2, 10, 3, 4}}, {}}, "digest"};
  facts.avoid_workers = {"w1", "w2"};
  facts.worker_hint = "w3";
  facts.affinity = 77;
  EXPECT_EQ(RoundTrip<cy::llm::RequestFacts>(facts), facts);
  EXPECT_EQ(RoundTrip<cy::llm::RequestFacts>(RequestFacts{}), RequestFacts{});
}

// One such text would make the whole message unreadable, and end the session.
TEST(Wire, WhatIsNotUtf8IsRepaired) {
  RequestFacts facts;
  facts.model = facts.adapter = facts.tenant = facts.worker_hint = "v=\xe9";
  facts.avoid_workers = {"\xff"};
  EXPECT_EQ((RoundTrip<cy::llm::RequestFacts>(facts).worker_hint), "v=\xef\xbf\xbd");
  Context context;
  context.traceparent = context.tracestate = context.request_id = "\xc0";
  cy::llm::CallContext sent, got;
  wire::Put(context, TimePoint(), &sent);
  EXPECT_TRUE(got.ParseFromString(sent.SerializeAsString()));
  EXPECT_EQ((RoundTrip<cy::llm::Error>(Status{Code::kInternal, "\xfe", "\xfe", "\xfe"}).message),
            "\xef\xbf\xbd");
  ToolCallDelta call;
  call.id = call.name = "\x80";
  EXPECT_EQ(std::get<ToolCallDelta>(RoundTrip<cy::llm::Event>(Event(call))).name, "\xef\xbf\xbd");
  Snapshot snapshot;
  snapshot.models = {{"\xe9", "echo"}};
  snapshot.models[0].adapters = {"\xe9"};
  snapshot.not_ready_reasons = {"\xe9"};
  snapshot.models[0].alias_of = snapshot.models[0].digest = snapshot.models[0].engine = "\xe9";
  RoundTrip<cy::llm::Snapshot>(snapshot);
  Accepted accepted;
  accepted.worker = accepted.digest = accepted.route.policy = "\xe9";
  RoundTrip<cy::llm::Event>(Event(accepted));
  RoundTrip<cy::llm::Event>(Event(Tried{"\xe9", {}}));
}

TEST(Wire, PayloadSurvivesAndIsDecodedOnDemand) {
  PayloadParts parts;
  parts.messages_json = R"([{"role":"user","content":"hé"}])";
  parts.tools_json = "[]";
  parts.tool_choice_json = "\"auto\"";
  parts.response_format_json = "{}";
  parts.template_kwargs_json = "{\"a\":1}";
  parts.prompt = std::string("\0\xFF", 2);
  parts.prompt_tokens = {1, -1};
  parts.sampling.temperature = 0;
  parts.sampling.top_p = 0.5;
  parts.sampling.min_p = 0.1;
  parts.sampling.top_k = 0;
  parts.sampling.repetition_penalty = 1.1;
  parts.sampling.presence_penalty = -2;
  parts.sampling.frequency_penalty = 2;
  parts.sampling.logit_bias = {{3, -100.f}};
  parts.sampling.stop = {"a", "b"};
  parts.sampling.stop_token_ids = {9};
  parts.sampling.ignore_eos = true;
  parts.sampling.min_tokens = 2;
  parts.sampling.logprobs = true;
  parts.sampling.top_logprobs = 5;
  parts.suffix = "}";
  parts.extra_json = R"({"x":1})";
  parts.inputs = {{"one", {}}, {"", {1, 2}}};
  parts.dimensions = 64;
  parts.no_special_tokens = true;
  parts.echo = true;
  parts.parallel_tool_calls = false;
  const auto sent = Payload::Of(parts);
  const auto received = Payload::FromBytes(sent->bytes());
  ASSERT_TRUE(received->parts().has_value());
  EXPECT_EQ(**received->parts(), parts);
  EXPECT_EQ(**Payload::FromBytes(Payload::Of({})->bytes())->parts(), PayloadParts{});
}

TEST(Wire, APayloadsPiecesAreItsBytesAndCopyNoText) {
  PayloadParts parts;
  parts.messages_json = std::string(100'000, 'm');
  parts.suffix = std::string(200, 's');
  parts.echo = true;
  const auto payload = Payload::Of(parts);
  const std::string& messages = (*payload->parts())->messages_json;
  std::string joined;
  bool shared = false;
  for (const std::string_view piece : payload->pieces()) {
    shared |= piece.data() == messages.data() && piece.size() == messages.size();
    joined += piece;
  }
  EXPECT_TRUE(shared);
  EXPECT_EQ(joined.size(), payload->size());
  EXPECT_TRUE(joined == payload->bytes());
  EXPECT_EQ(**Payload::FromBytes(joined)->parts(), parts);
  const auto received = Payload::FromBytes(joined);
  ASSERT_EQ(received->pieces().size(), 1u);
  EXPECT_TRUE(received->pieces()[0] == joined);
  EXPECT_TRUE(Payload::FromBytes("")->bytes().empty());
}

TEST(Wire, GarbageIsNoPayload) {
  const auto parts = Payload::FromBytes("\xFF\xFF\xFF")->parts();
  ASSERT_FALSE(parts.has_value());
  EXPECT_EQ(parts.error().code, Code::kInvalidArgument);
}

TEST(Wire, EveryEventSurvives) {
  const Offsets end{1, 2, 3, 4};
  const TokenLogprob logprob{7, "\xFF", -0.5f, {{8, "b", -1.f, {}}}};
  const std::vector<Event> events = {
      Accepted{5, 2, "w"},
      Progress{Progress::Phase::kLoading, 0.25f, "reading"},
      TextDelta{1, "text", {7, 8}, {logprob}, end},
      ReasoningDelta{2, "because", {9}, end},
      ToolCallDelta{0, 1, "call_1", "f", "{\"a\":", {10}, end},
      Finished{3, FinishReason::kToolCalls, "STOP", {1, 2, 3, 4}, {0.5, 1.5, 2.5}},
      Values{2, {0.5f, -1.f}},
      Tried{"w", {"least_load", 0.5f, 12.5, 3}},
  };
  for (const Event& event : events) EXPECT_EQ(RoundTrip<cy::llm::Event>(event), event) << event.index();
  EXPECT_TRUE(std::holds_alternative<Progress>(wire::Get(cy::llm::Event{})));
}

TEST(Wire, StatusSurvives) {
  const Status status{Code::kUnavailable, "busy", "overloaded", "model", Millis(1500), true};
  EXPECT_EQ(RoundTrip<cy::llm::Error>(status), status);
  cy::llm::Error strange;
  strange.set_code(99);
  EXPECT_EQ(wire::Get(strange).code, Code::kUnknown);
}

TEST(Wire, SnapshotSurvives) {
  Snapshot snapshot;
  snapshot.models = {
      {"a", "echo", ModelState::kReady, 2048, kCapChat, 1700000000, "d", "", {"lora"}, 1 << 30},
      {"default", "echo", ModelState::kLoading, 0, 0, 0, "", "a", {}}};
  snapshot.load = {1, 2, 16};
  snapshot.ready = true;
  snapshot.not_ready_reasons = {"x"};
  EXPECT_EQ(RoundTrip<cy::llm::Snapshot>(snapshot), snapshot);
}

TEST(Wire, DeadlinesTravelAsRemainingTime) {
  const TimePoint now = Clock::now();
  Context context;
  context.deadline = now + Millis(1500);
  context.request_id = "r";
  context.traceparent = "00-1-2-01";
  context.tracestate = "a=b";
  cy::llm::CallContext message;
  wire::Put(context, now, &message);
  const TimePoint later = now + std::chrono::hours(1);
  const Context read = wire::Get(message, later);
  EXPECT_EQ(read.deadline, later + Millis(1500));
  EXPECT_EQ(read.request_id, "r");
  EXPECT_EQ(read.traceparent, context.traceparent);
  EXPECT_EQ(read.tracestate, "a=b");
  wire::Put(context, later, &(message = {}));
  EXPECT_EQ(message.remaining_ms(), 0u);  // already over, not unset
  EXPECT_TRUE(message.has_remaining_ms());
  message.set_remaining_ms(~0ull);
  EXPECT_GT(wire::Get(message, now).deadline, now);
}

}  // namespace
}  // namespace cyllm
