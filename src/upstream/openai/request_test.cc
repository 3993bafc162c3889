#include "upstream/openai/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace cyllm::upstream {
namespace {

namespace json = boost::json;

json::value Body(const char* profile, const RequestFacts& facts, const PayloadParts& parts,
                 const char* path = nullptr) {
  const auto call = ToHttp(*FindProfile(profile), "m", facts, parts);
  EXPECT_TRUE(call) << (call ? "" : call.error().ToString());
  if (!call) return nullptr;
  if (path) EXPECT_EQ(call->path, path);
  return json::parse(call->body);
}

std::string Refused(const char* profile, const RequestFacts& facts, const PayloadParts& parts) {
  const auto call = ToHttp(*FindProfile(profile), "m", facts, parts);
  return call ? "taken" : call.error().reason + " " + call.error().param;
}

TEST(ToHttp, AChatWithEverything) {
  RequestFacts facts;
  facts.max_tokens = 7;
  facts.choices = 2;
  facts.seed = -5;
  facts.priority = 3;
  PayloadParts parts;
  parts.messages_json = R"([{"role":"user","content":"hi"}])";
  parts.tools_json = R"([{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])";
  parts.tool_choice_json = R"("auto")";
  parts.response_format_json = R"({"type":"json_object"})";
  parts.template_kwargs_json = R"({"a":1})";
  parts.parallel_tool_calls = false;
  Sampling& s = parts.sampling;
  s.temperature = 0.5;
  s.top_p = 0.25;
  s.min_p = 0.125;
  s.top_k = 4;
  s.repetition_penalty = 1.5;
  s.presence_penalty = -1;
  s.frequency_penalty = 1;
  s.logit_bias = {{5, -1.5f}, {6, 2}};
  s.stop = {"a\"b", "c"};
  s.stop_token_ids = {1, 2};
  s.ignore_eos = true;
  s.min_tokens = 2;
  s.logprobs = true;
  s.top_logprobs = 3;
  EXPECT_EQ(Body("vllm", facts, parts, "/v1/chat/completions"), json::parse(R"({"model":"m",
    "messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},
    "max_tokens":7,"n":2,"seed":-5,"priority":3,"return_token_ids":true,"temperature":0.5,"top_k":4,
    "top_p":0.25,"min_p":0.125,"repetition_penalty":1.5,"presence_penalty":-1,"frequency_penalty":1,
    "stop":["a\"b","c"],"stop_token_ids":[1,2],"ignore_eos":true,"min_tokens":2,
    "logit_bias":{"5":-1.5,"6":2},"logprobs":true,"top_logprobs":3,
    "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],
    "tool_choice":"auto","parallel_tool_calls":false,"response_format":{"type":"json_object"},
    "chat_template_kwargs":{"a":1}})"));
}

TEST(ToHttp, WhatIsAbsentIsNotSent) {
  PayloadParts parts;
  parts.messages_json = "[]";
  EXPECT_EQ(Body("openai", {}, parts), json::parse(R"({"model":"m","messages":[],"stream":true,
    "stream_options":{"include_usage":true}})"));
}

TEST(ToHttp, EachServerHasItsNames) {
  RequestFacts facts;
  facts.max_tokens = 1;
  PayloadParts parts;
  parts.messages_json = "[]";
  EXPECT_EQ(Body("openai", facts, parts).at("max_completion_tokens"), 1);
  parts.sampling.repetition_penalty = 2;
  EXPECT_EQ(Body("llama-server", facts, parts).at("repeat_penalty"), 2);
}

TEST(ToHttp, WhatAServerDoesNotKnowIsRefused) {
  PayloadParts parts;
  parts.messages_json = "[]";
  parts.sampling.top_k = 1;
  EXPECT_EQ(Refused("openai", {}, parts), "unsupported top_k");
  parts.sampling = {};
  parts.sampling.min_tokens = 1;
  EXPECT_EQ(Refused("llama-server", {}, parts), "unsupported min_tokens");
  RequestFacts facts;
  facts.adapter = "l1";
  EXPECT_EQ(Refused("ollama", facts, {}), "unsupported adapter");
  facts = {};
  facts.kind = Kind::kRerank;
  EXPECT_EQ(Refused("openai", facts, {}), "unsupported ");
  facts.kind = Kind::kTokenize;
  EXPECT_EQ(Refused("sglang", facts, {}), "unsupported ");
  facts = {};
  facts.resume.choices.resize(1);
  EXPECT_EQ(Refused("vllm", facts, {}), "cannot_resume ");
}

TEST(ToHttp, WhatWeDoNotKnowIsPassedOnButSetsNothingOfOurs) {
  RequestFacts facts;
  facts.max_tokens = 3;
  PayloadParts parts;
  parts.messages_json = "[]";
  parts.extra_json =
      R"({"guided_regex":"a\"b","model":"x","stream":false,"max_tokens":9,"return_token_ids":false,
    "n_predict":99,"lora":[],"kv_transfer_params":{"remote_host":"h"},"odd \"key":null})";
  EXPECT_EQ(Body("vllm", facts, parts), json::parse(R"({"model":"m","messages":[],"stream":true,
    "stream_options":{"include_usage":true},"max_tokens":3,"return_token_ids":true,"guided_regex":"a\"b",
    "odd \"key":null})"));
  EXPECT_EQ(Body("trtllm", facts, parts).as_object().size(), 5u);
  parts.extra_json = R"({"deep":)" + std::string(60, '[') + std::string(60, ']') + "}";
  const auto deep = ToHttp(*FindProfile("vllm"), "m", facts, parts);
  EXPECT_NE(deep->body.find(parts.extra_json.substr(1)), std::string::npos);
  parts.extra_json = "no object";
  EXPECT_EQ(Body("openai", facts, parts).as_object().size(), 5u);
}

TEST(ToHttp, ReasoningEffortIsOpenAisWhereThereAreNoTemplateArguments) {
  PayloadParts parts;
  parts.messages_json = "[]";
  parts.template_kwargs_json = R"({"reasoning_effort":"low"})";
  EXPECT_EQ(Body("openai", {}, parts).at("reasoning_effort"), "low");
  EXPECT_EQ(Body("vllm", {}, parts).at("chat_template_kwargs"), json::parse(parts.template_kwargs_json));
  EXPECT_EQ(Refused("mindie", {}, parts), "unsupported reasoning_effort");
  parts.template_kwargs_json = R"({"reasoning_effort":"low","x":1})";
  EXPECT_EQ(Refused("openai", {}, parts), "unsupported chat_template_kwargs");
}

TEST(ToHttp, ForcedToolCallsAreStrict) {
  PayloadParts parts;
  parts.messages_json = "[]";
  parts.tools_json = R"([{"type":"function","function":{"name":"f","parameters":{}}},
                         {"type":"function","function":{"name":"g"}}])";
  parts.tool_choice_json = R"("required")";
  const json::value body = Body("vllm", {}, parts);
  EXPECT_EQ(body.at("tools").at(0).at("function").at("strict"), true);
  EXPECT_FALSE(body.at("tools").at(1).at("function").as_object().contains("strict"));
  EXPECT_FALSE(Body("openai", {}, parts).at("tools").at(0).at("function").as_object().contains("strict"));
}

TEST(ToHttp, ANamedToolIsTheOnlyOneWhereTheServerKnowsWordsOnly) {
  PayloadParts parts;
  parts.messages_json = "[]";
  parts.tools_json =
      R"([{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}])";
  parts.tool_choice_json = R"({"type":"function","function":{"name":"g"}})";
  EXPECT_EQ(Body("openai", {}, parts).at("tools").as_array().size(), 2u);
  const json::value body = Body("llama-server", {}, parts);
  EXPECT_EQ(body.at("tools"), json::parse(R"([{"type":"function","function":{"name":"g"}}])"));
  EXPECT_EQ(body.at("tool_choice"), "required");
  parts.tool_choice_json = R"("required")";
  EXPECT_EQ(Body("llama-server", {}, parts).at("tools").as_array().size(), 2u);
}

TEST(ToHttp, SeveralGreedyChoices) {
  RequestFacts facts;
  facts.choices = 2;
  PayloadParts parts;
  parts.messages_json = "[]";
  parts.sampling.temperature = 0;
  const json::value body = Body("vllm", facts, parts);
  EXPECT_EQ(body.at("temperature"), 1);
  EXPECT_EQ(body.at("top_k"), 1);
  EXPECT_EQ(Body("cy-llm", facts, parts).at("temperature"), 0);
}

TEST(ToHttp, Prompts) {
  RequestFacts facts;
  facts.kind = Kind::kText;
  PayloadParts parts;
  parts.prompt = "a\n";
  parts.suffix = "z";
  parts.echo = true;
  json::value body = Body("vllm", facts, parts, "/v1/completions");
  EXPECT_EQ(body.at("prompt"), "a\n");
  EXPECT_EQ(body.at("suffix"), "z");
  EXPECT_EQ(body.at("echo"), true);
  facts.kind = Kind::kTokens;
  parts.prompt_tokens = {4, 5};
  EXPECT_EQ(Body("vllm", facts, parts).at("prompt"), json::parse("[4,5]"));
  facts.adapter = "l1";
  EXPECT_EQ(Body("vllm", facts, parts).at("model"), "l1");
}

TEST(ToHttp, VectorsRanksAndTokens) {
  RequestFacts facts;
  facts.kind = Kind::kEmbed;
  PayloadParts parts;
  parts.inputs = {{"a", {}}, {"b", {}}};
  parts.dimensions = 3;
  EXPECT_EQ(Body("vllm", facts, parts, "/v1/embeddings"),
            json::parse(R"({"model":"m","input":["a","b"],"encoding_format":"base64","dimensions":3})"));
  parts.inputs = {{"", {1, 2}}, {"", {3}}};
  EXPECT_EQ(Body("vllm", facts, parts).at("input"), json::parse("[[1,2],[3]]"));
  parts.inputs = {{"", {1, 2}}, {"text", {}}};
  EXPECT_EQ(Refused("vllm", facts, parts), "unsupported input");

  facts.kind = Kind::kRerank;
  parts = {};
  parts.prompt = "q";
  parts.inputs = {{"a", {}}};
  EXPECT_EQ(Body("sglang", facts, parts, "/v1/rerank"),
            json::parse(R"({"model":"m","query":"q","documents":["a"]})"));

  facts.kind = Kind::kTokenize;
  parts = {};
  parts.prompt = "x";
  parts.no_special_tokens = true;
  EXPECT_EQ(Body("vllm", facts, parts, "/tokenize"),
            json::parse(R"({"model":"m","prompt":"x","add_special_tokens":false})"));
  EXPECT_EQ(Body("llama-server", facts, parts),
            json::parse(R"({"model":"m","content":"x","add_special":false})"));
  parts.sampling.logprobs = true;
  EXPECT_EQ(Refused("vllm", facts, parts), "unsupported with_pieces");
  EXPECT_EQ(Body("llama-server", facts, parts),
            json::parse(R"({"model":"m","content":"x","add_special":false,"with_pieces":true})"));
  parts.sampling.logprobs = false;
  facts.kind = Kind::kDetokenize;
  parts.prompt_tokens = {9};
  EXPECT_EQ(Body("vllm", facts, parts, "/detokenize"), json::parse(R"({"model":"m","tokens":[9]})"));
}

}  // namespace
}  // namespace cyllm::upstream
