#include "upstream/openai/continuation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <fstream>
#include <functional>

#include "upstream/openai/answer.h"
#include "upstream/openai/sse.h"

namespace cyllm::upstream {
namespace {

namespace json = boost::json;
using testing::ElementsAre;

const Profile& kVllm = *FindProfile("vllm");
const Profile& kLlama = *FindProfile("llama-server");

RequestFacts Begun() {
  RequestFacts facts;
  facts.max_tokens = 10;
  facts.seed = 7;
  facts.resume = {1, {{{4, 5, 6}, {3, 11, 0, 0}}}, "vllm /m"};
  return facts;
}

PayloadParts Parts() {
  PayloadParts parts;
  parts.messages_json = R"([{"role":"user","content":"hi"}])";
  parts.sampling.temperature = 0.5;
  parts.sampling.min_tokens = 5;
  return parts;
}

TEST(Continuation, OnlyWhereNothingButTokensDecides) {
  EXPECT_TRUE(CanContinue(kVllm, Begun(), Parts()));
  EXPECT_TRUE(CanContinue(kLlama, Begun(), Parts()));
  for (const char* other : {"openai", "sglang", "trtllm", "ollama", "mindie", "cy-llm"})
    EXPECT_FALSE(CanContinue(*FindProfile(other), Begun(), Parts())) << other;
  const auto with = [](const std::function<void(RequestFacts&, PayloadParts&)>& change) {
    RequestFacts facts = Begun();
    PayloadParts parts = Parts();
    change(facts, parts);
    return CanContinue(kVllm, facts, parts);
  };
  EXPECT_FALSE(with([](auto&, auto& p) { p.sampling.stop = {"x"}; }));
  EXPECT_FALSE(with([](auto&, auto& p) { p.extra_json = R"({"user":"u","guided_regex":"a"})"; }));
  EXPECT_TRUE(with([](auto&, auto& p) { p.extra_json = R"({"user":"u","metadata":{}})"; }));
  EXPECT_FALSE(with([](auto&, auto& p) { p.sampling.logprobs = true; }));
  EXPECT_FALSE(with([](auto&, auto& p) { p.sampling.presence_penalty = 1; }));
  EXPECT_FALSE(with([](auto&, auto& p) { p.sampling.frequency_penalty = 1; }));
  EXPECT_FALSE(with([](auto&, auto& p) { p.tools_json = "[]"; }));
  EXPECT_FALSE(with([](auto&, auto& p) { p.response_format_json = "{}"; }));
  EXPECT_FALSE(with([](auto&, auto& p) { p.echo = true; }));
  EXPECT_FALSE(with([](auto& f, auto&) { f.choices = 2; }));
  EXPECT_FALSE(with([](auto& f, auto&) { f.adapter = "a"; }));
  EXPECT_FALSE(with([](auto& f, auto&) { f.needs = kCapVision; }));
  EXPECT_TRUE(with([](auto& f, auto&) { f.max_tokens.reset(); }));
  EXPECT_FALSE(with([](auto& f, auto&) { f.kind = Kind::kText, f.max_tokens.reset(); }));
}

TEST(Continuation, OnlyFromAStateThatIsKnown) {
  const auto refused = [](const std::function<void(RequestFacts&)>& change,
                          const std::string& digest = "vllm /m") {
    RequestFacts facts = Begun();
    change(facts);
    return CheckContinuation(kVllm, facts, Parts(), digest).reason;
  };
  const auto nothing = [](RequestFacts&) {};
  EXPECT_EQ(refused(nothing), "");
  EXPECT_EQ(refused(nothing, "vllm /other"), "cannot_resume");
  EXPECT_EQ(refused(nothing, ""), "cannot_resume");
  EXPECT_EQ(refused([](auto& f) { f.resume.choices[0].token_ids.pop_back(); }), "cannot_resume");
  EXPECT_EQ(refused([](auto& f) { f.resume.choices[0].delivered.reasoning_bytes = 1; }), "cannot_resume");
  EXPECT_EQ(refused([](auto& f) { f.resume.choices.push_back({}); }), "cannot_resume");
}

TEST(Continuation, TheDeliveredTextMustBeAllOfIt) {
  EXPECT_TRUE(IsWhole(Begun(), "Hello world"));
  EXPECT_FALSE(IsWhole(Begun(), "Hello"));
  EXPECT_FALSE(IsWhole(Begun(), "Hello wo\xEF\xBF\xBD"));  // as long, but part of a character
}

TEST(Continuation, VllmsCalls) {
  EXPECT_EQ(TemplateCall(kVllm, Parts()).path, "");
  const auto ids = PromptIdsCall(kVllm, "m", Begun(), Parts(), "");
  ASSERT_TRUE(ids);
  EXPECT_EQ(ids->path, "/tokenize");
  EXPECT_EQ(json::parse(ids->body).at("messages").as_array().size(), 1u);
  EXPECT_EQ(DeliveredTextCall(kVllm, "m", Begun())->body, R"({"model":"m","tokens":[4,5,6]})");
  const auto rest = ContinueCall(kVllm, "m", Begun(), Parts(), {1, 2}, 0);
  ASSERT_TRUE(rest);
  EXPECT_EQ(rest->path, "/v1/completions");
  EXPECT_EQ(json::parse(rest->body), json::parse(R"({"model":"m","prompt":[1,2,4,5,6],"stream":true,
    "stream_options":{"include_usage":true},"max_tokens":7,"seed":10,"return_token_ids":true,"temperature":0.5,
    "min_tokens":2})"));
}

TEST(Continuation, WithoutALimitUpToTheContext) {
  RequestFacts facts = Begun();
  facts.max_tokens.reset();
  EXPECT_EQ(json::parse(ContinueCall(kVllm, "m", facts, Parts(), {1, 2}, 100)->body).at("max_tokens"), 95);
  EXPECT_EQ(ContinueCall(kVllm, "m", facts, Parts(), {1, 2}, 0).error().reason, "cannot_resume");
}

TEST(Continuation, LlamaServersCalls) {
  PayloadParts parts = Parts();
  parts.sampling.min_tokens = 0;
  EXPECT_EQ(TemplateCall(kLlama, parts).path, "/apply-template");
  const auto ids = PromptIdsCall(kLlama, "m", Begun(), parts, "<user>hi");
  ASSERT_TRUE(ids);
  EXPECT_EQ(json::parse(ids->body), json::parse(R"({"model":"m","content":"<user>hi","add_special":true})"));
  const json::value rest = json::parse(ContinueCall(kLlama, "m", Begun(), parts, {1, 2}, 0)->body);
  EXPECT_EQ(rest.at("prompt"), json::parse("[1,2,4,5,6]"));
  EXPECT_EQ(rest.at("n_probs"), 1);  // so that it can be gone on with again
  EXPECT_EQ(rest.at("post_sampling_probs"), true);
  // A request that cannot be gone on with does not ask for ids.
  parts.sampling.stop = {"x"};
  EXPECT_FALSE(json::parse(ToHttp(kLlama, "m", RequestFacts(), parts)->body).as_object().contains("n_probs"));
}

TEST(Continuation, WhatTheCallsAnswer) {
  EXPECT_EQ(*ReadPromptText(R"({"prompt":"a"})"), "a");
  EXPECT_EQ(*ReadPromptText(R"({"content":"b"})"), "b");
  EXPECT_EQ(*ReadPromptText(R"({"content":""})"), "");
  EXPECT_THAT(*ReadPromptIds(R"({"tokens":[1,2]})"), ElementsAre(1, 2));
  for (const char* bad : {"", "{}", "[]", R"({"tokens":[]})", R"({"tokens":["a"]})"}) {
    EXPECT_FALSE(ReadPromptIds(bad)) << bad;
    EXPECT_FALSE(ReadPromptText(bad)) << bad;
  }
}

// Ids that came with the probabilities of recorded answers of llama-server.
std::vector<TextDelta> Recorded(const char* name, Kind kind) {
  std::ifstream in(std::string(CY_SAMPLES) + "/llama-server/" + name);
  const std::string body{std::istreambuf_iterator<char>(in), {}};
  SseParser sse(1 << 20);
  std::vector<std::string> data;
  EXPECT_TRUE(sse.Feed(body, data));
  StreamAnswer answer({.kind = kind, .ids_by_logprobs = true});
  Batch events;
  for (const std::string& event : data) EXPECT_TRUE(answer.OnData(event, TimePoint{}, events).ok());
  std::vector<TextDelta> out;
  for (const Event& event : events)
    if (const auto* delta = std::get_if<TextDelta>(&event)) out.push_back(*delta);
  return out;
}

TEST(Continuation, LlamaServersIds) {
  const auto chat = Recorded("chat_ids.sse", Kind::kChat);
  ASSERT_EQ(chat.size(), 3u);
  EXPECT_EQ(chat[0], (TextDelta{0, "Hello", {19556}, {}, {1, 5, 0, 0}}));
  const auto text = Recorded("completion_ids.sse", Kind::kText);
  ASSERT_EQ(text.size(), 2u);
  EXPECT_EQ(text[1], (TextDelta{0, "to", {1141}, {}, {2, 3, 0, 0}}));
  // Of a character in several tokens it tells the last id only; IsWhole() finds that.
  const auto split = Recorded("split_character.sse", Kind::kText);
  EXPECT_EQ(split[0], (TextDelta{0, "\xF0\x9F\x98\x80", {218}, {}, {1, 4, 0, 0}}));
}

TEST(Continuation, TheAnswerJoinsOn) {
  StreamAnswer answer({.kind = Kind::kTokens, .digest = "d", .resumable = true, .begun = {3, 11, 0, 0}});
  Batch events;
  EXPECT_TRUE(answer
                  .OnData(R"({"choices":[{"index":0,"text":" b","token_ids":[9],"finish_reason":"stop"}]})",
                          {}, events)
                  .ok());
  EXPECT_TRUE(
      answer.OnData(R"({"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1}})", {}, events).ok());
  ASSERT_TRUE(answer.OnEnd(events).ok());
  EXPECT_EQ(std::get<Accepted>(events[0]).digest, "d");
  EXPECT_TRUE(std::get<Accepted>(events[0]).resumable);
  EXPECT_EQ(std::get<TextDelta>(events[1]), (TextDelta{0, " b", {9}, {}, {4, 13, 0, 0}}));
  EXPECT_EQ(std::get<Finished>(events[2]).usage.completion_tokens, 4u);  // of the whole answer
}

}  // namespace
}  // namespace cyllm::upstream
