#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/dialects/openai/openai.h"
#include "inference/prefix_hash.h"

namespace cyllm::openai {
namespace {

using testing::HasSubstr;

Result<dialect::Call> Chat(const std::string& fields) {
  return ParseChat(R"({"model":"m","messages":[{"role":"user","content":"hi"}])" +
                       (fields.empty() ? "" : "," + fields) + "}",
                   {});
}

TEST(ChatTest, AppliesWhatIsGivenAndZeroIsZero) {
  const auto call =
      Chat(R"("temperature":0,"top_p":0,"max_tokens":0,"seed":-5,"n":3,"stop":["a","b"],"top_k":7,
      "repetition_penalty":1.1,"presence_penalty":-1,"frequency_penalty":0.5,"stream":true,
      "stream_options":{"include_usage":true},"logit_bias":{"12":-100,"foo":0},"ignore_eos":true,"min_tokens":2)");
  ASSERT_TRUE(call) << call.error().message;
  const RequestFacts& facts = call->requests.at(0).facts;
  EXPECT_EQ(facts.max_tokens, 0u);
  EXPECT_EQ(facts.seed, -5);
  EXPECT_EQ(facts.choices, 3u);
  EXPECT_TRUE(call->stream);
  const PayloadParts& parts = **call->requests.at(0).payload->parts();
  EXPECT_EQ(parts.sampling.temperature, 0.0);
  EXPECT_EQ(parts.sampling.top_p, 0.0);
  EXPECT_EQ(parts.sampling.top_k, 7);
  EXPECT_EQ(parts.sampling.repetition_penalty, 1.1);
  EXPECT_EQ(parts.sampling.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(parts.sampling.logit_bias.size(), 1u);
  EXPECT_TRUE(parts.sampling.ignore_eos);
}

TEST(ChatTest, AbsentAndNullAreDefaults) {
  const auto call =
      Chat(R"("temperature":null,"max_tokens":null,"stop":null,"tools":null,"stream_options":null,
      "user":"u","metadata":{"a":1},"store":true,"unknown_field":[1])");
  ASSERT_TRUE(call) << call.error().message;
  EXPECT_FALSE(call->requests.at(0).facts.max_tokens);
  EXPECT_FALSE((*call->requests.at(0).payload->parts())->sampling.temperature);
  const auto no_model = ParseChat(R"({"messages":[{"role":"user","content":"x"}]})", {});
  ASSERT_TRUE(no_model);
  EXPECT_EQ(no_model->requests.at(0).facts.model, "default");
}

TEST(ChatTest, WhatNobodyReadsIsKeptForAServerThatMay) {
  const auto extra = [](const Result<dialect::Call>& call) {
    return call ? (*call->requests.at(0).payload->parts())->extra_json : call.error().message;
  };
  EXPECT_EQ(extra(Chat(R"("temperature":1,"top_logprobs":null,"stream_options":{"x":1})")), "");
  EXPECT_EQ(extra(Chat(R"("user":"u","guided_regex":"a+","x":null,"y":{"z":[1]})")),
            R"({"user":"u","guided_regex":"a+","x":null,"y":{"z":[1]}})");
  EXPECT_EQ(extra(ParseCompletion(R"({"prompt":"p","best_of":1,"truncate_prompt_tokens":5})", {})),
            R"({"truncate_prompt_tokens":5})");
  EXPECT_EQ(extra(ParseEmbeddings(R"({"input":"p","encoding_format":"base64","user":"u"})", {})),
            R"({"user":"u"})");
}

TEST(ChatTest, SchemasByTheNamesOfServers) {
  constexpr const char* kSchema = R"({"type":"object"})";
  const std::string format =
      R"({"type":"json_schema","json_schema":{"name":"answer","schema":{"type":"object"}}})";
  for (const std::string& field :
       {R"("guided_json":)" + std::string(kSchema), R"("json_schema":)" + std::string(kSchema),
        R"("structured_outputs":{"json":)" + std::string(kSchema) + "}",
        std::string(R"("guided_json":"{\"type\":\"object\"}")")}) {
    const auto call = Chat(field.c_str());
    ASSERT_TRUE(call) << call.error().message;
    const PayloadParts& parts = **call->requests.at(0).payload->parts();
    EXPECT_EQ(parts.response_format_json, format) << field;
    EXPECT_EQ(parts.extra_json, "") << field;
    EXPECT_TRUE(call->requests.at(0).facts.needs & kCapJsonSchema);
  }
  EXPECT_EQ(Chat(R"("guided_json":5)").error().param, "guided_json");
  EXPECT_EQ(Chat(R"("structured_outputs":{"json":[]})").error().param, "structured_outputs");
  const auto regex = Chat(R"("structured_outputs":{"regex":"a"})");
  EXPECT_EQ((*regex->requests.at(0).payload->parts())->extra_json, R"({"structured_outputs":{"regex":"a"}})");
  const auto text = Chat(R"("response_format":{"type":"text"},"guided_json":{"type":"object"},"grammar":"")");
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ((*text->requests.at(0).payload->parts())->response_format_json, format);
}

TEST(ChatTest, ASchemaBesideAnotherFormIsRefusedByName) {
  const std::pair<const char*, const char*> kTable[] = {
      {R"("response_format":{"type":"json_object"},"guided_json":{})", "'guided_json' 'response_format'"},
      {R"("json_schema":{},"guided_json":{})", "'guided_json' 'json_schema'"},
      {R"("guided_json":{},"guided_regex":"a")", "'guided_json' 'guided_regex'"},
      {R"("structured_outputs":{"json":{}},"guided_choice":["a"])", "'structured_outputs' 'guided_choice'"},
      {R"("json_schema":{},"structured_outputs":{"regex":"a"})", "'json_schema' 'structured_outputs'"}};
  for (const auto& [fields, names] : kTable) {
    const auto call = Chat(fields);
    ASSERT_FALSE(call) << fields;
    const std::string& message = call.error().message;
    const std::string expected = names;
    const size_t cut = expected.find(' ');
    EXPECT_EQ("'" + call.error().param + "'", expected.substr(0, cut));
    EXPECT_NE(message.find(expected.substr(cut + 1)), std::string::npos) << message;
  }
}

TEST(ChatTest, FormsNeedAnEngineThatCan) {
  const auto needs = [](const Result<dialect::Call>& call) {
    EXPECT_TRUE(call) << call.error().message;
    return (call->requests.at(0).facts.needs & kCapJsonSchema) != 0;
  };
  for (const char* field :
       {R"("guided_choice":["a"])", R"("guided_regex":"a")", R"("guided_grammar":"g")", R"("grammar":"g")",
        R"("structured_outputs":{"choice":["a"]})", R"("response_format":{"type":"json_object"})"}) {
    EXPECT_TRUE(needs(Chat(field))) << field;
    const std::string completion = R"({"prompt":"p",)" + std::string(field) + "}";
    const auto call = ParseCompletion(completion, {});
    EXPECT_TRUE(needs(call)) << field;
    EXPECT_EQ((*call->requests.at(0).payload->parts())->extra_json, "{" + std::string(field) + "}");
  }
  for (const char* field :
       {R"("guided_choice":null)", R"("grammar":"")", R"("response_format":{"type":"text"})"})
    EXPECT_FALSE(needs(Chat(field))) << field;
}

TEST(ChatTest, NewNameOfMaxTokensWins) {
  EXPECT_EQ(Chat(R"("max_tokens":5,"max_completion_tokens":9)")->requests.at(0).facts.max_tokens, 9u);
}

TEST(ChatTest, MistakesNameTheField) {
  const std::pair<const char*, const char*> kTable[] = {
      {R"("max_tokens":-5)", "max_tokens"},
      {R"("max_tokens":-1)", "max_tokens"},
      {R"("max_tokens":1.5)", "max_tokens"},
      {R"("max_tokens":99999999999)", "max_tokens"},
      {R"("temperature":"hot")", "temperature"},
      {R"("temperature":2.5)", "temperature"},
      {R"("temperature":-0.1)", "temperature"},
      {R"("temperature":true)", "temperature"},
      {R"("top_p":1.1)", "top_p"},
      {R"("n":0)", "n"},
      {R"("n":1000)", "n"},
      {R"("stream":"yes")", "stream"},
      {R"("stream":true,"stream_options":3)", "stream_options"},
      {R"("stream":true,"stream_options":{"include_usage":3})", "stream_options.include_usage"},
      {R"("stop":3)", "stop"},
      {R"("stop":[3])", "stop"},
      {R"("seed":"x")", "seed"},
      {R"("seed":1e30)", "seed"},
      {R"("logit_bias":{"x":1})", "logit_bias"},
      {R"("logit_bias":{"1":101})", "logit_bias"},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {R"("top_logprobs":2)", "top_logprobs"},
      {R"("tools":[{"type":"x"}])", "tools[0].type"},
      {R"("tools":[{"type":"function","function":{"name":"a b"}}])", "tools[0].function.name"},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("response_format":{"type":"xml"})", "response_format.type"},
      {R"("response_format":{"type":"json_schema","json_schema":{}})", "response_format.json_schema.schema"},
      {R"("response_format":{"type":"grammar","grammar":""})", "response_format.grammar"},
      {R"("modalities":["audio"])", "modalities"},
  };
  for (const auto& [fields, param] : kTable) {
    const auto call = Chat(fields);
    ASSERT_FALSE(call) << fields;
    EXPECT_EQ(call.error().param, param) << fields;
    EXPECT_EQ(call.error().code, Code::kInvalidArgument);
    EXPECT_THAT(call.error().message, HasSubstr(param));
  }
}

TEST(ChatTest, MessagesMistakes) {
  const std::pair<const char*, const char*> kTable[] = {
      {"null", "messages"},
      {R"("hi")", "messages"},
      {"[]", "messages"},
      {"[123]", "messages[0]"},
      {"[{}]", "messages[0].role"},
      {R"([{"role":123,"content":"x"}])", "messages[0].role"},
      {R"([{"role":"king","content":"x"}])", "messages[0].role"},
      {R"([{"role":"user"}])", "messages[0].content"},
      {R"([{"role":"user","content":123}])", "messages[0].content"},
      {R"([{"role":"user","content":[]}])", "messages[0].content"},
      {R"([{"role":"assistant","tool_calls":[123]}])", "messages[0].tool_calls[0]"},
      {R"([{"role":"assistant","tool_calls":[{"function":7}]}])", "messages[0].tool_calls[0].function"},
      {R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{}}}]}])",
       "messages[0].tool_calls[0].function.arguments"},
      {R"([{"role":"user","content":"a"},{"role":"user","content":[{"type":"image_url"}]}])",
       "messages[1].content[0]"},
      {R"([{"role":"user","content":[{"type":"text","text":3}]}])", "messages[0].content[0].text"},
  };
  for (const auto& [messages, param] : kTable) {
    const auto call = ParseChat(std::string(R"({"messages":)") + messages + "}", {});
    ASSERT_FALSE(call) << messages;
    EXPECT_EQ(call.error().param, param) << messages;
  }
}

TEST(ChatTest, ContentPartsBecomeText) {
  const auto call = ParseChat(
      R"({"messages":[{"role":"assistant","content":null},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]})",
      {});
  ASSERT_TRUE(call) << call.error().message;
  EXPECT_EQ((*call->requests.at(0).payload->parts())->messages_json,
            R"([{"role":"assistant","content":""},{"role":"user","content":"ab"}])");
}

TEST(ChatTest, NoJsonNoObject) {
  for (const char* body : {"", "{", "[]", "3", "\"x\"", "{\"a\":\"\xff\"}"}) {
    const auto call = ParseChat(body, {});
    ASSERT_FALSE(call) << body;
    EXPECT_EQ(call.error().code, Code::kInvalidArgument);
  }
  EXPECT_FALSE(ParseChat(std::string(100'000, '['), {}));
}

TEST(ChatTest, WhomToStayWith) {
  const auto affinity = [](const std::string& fields) { return Chat(fields)->requests.at(0).facts.affinity; };
  const uint64_t alice = Hash64("alice");
  EXPECT_EQ(affinity(""), 0u);
  EXPECT_EQ(affinity(R"("user":"")"), 0u);
  EXPECT_EQ(affinity(R"("user":7,"safety_identifier":null)"), 0u);
  EXPECT_EQ(affinity(R"("user":"alice")"), alice);
  EXPECT_EQ(affinity(R"("user":"bob","safety_identifier":"alice")"), alice);
  EXPECT_EQ(affinity(R"("user":"bob","safety_identifier":"bob","prompt_cache_key":"alice")"), alice);
  // Only the field counts, not what prompts say.
  EXPECT_EQ(affinity(R"("metadata":{"user":"alice"},"stop":["\"user\":\"alice\""])"), 0u);
  for (const Request& request : ParseCompletion(R"({"prompt":["a","b"],"user":"alice"})", {})->requests)
    EXPECT_EQ(request.facts.affinity, alice);
  EXPECT_EQ(ParseEmbeddings(R"({"input":"a","user":"alice"})", {})->requests.at(0).facts.affinity, alice);
}

TEST(ChatTest, ToolsAreANeed) {
  const char* kTools = R"("tools":[{"type":"function","function":{"name":"f"}}])";
  EXPECT_TRUE(Chat(kTools)->requests.at(0).facts.needs & kCapTools);
  EXPECT_FALSE(Chat(std::string(kTools) + R"(,"tool_choice":"none")")->requests.at(0).facts.needs &
               kCapTools);
  EXPECT_FALSE(Chat(R"("tools":[])")->requests.at(0).facts.needs & kCapTools);
  EXPECT_TRUE(Chat(R"("response_format":{"type":"json_object"})")->requests.at(0).facts.needs &
              kCapJsonSchema);
  EXPECT_FALSE(Chat(R"("response_format":{"type":"text"})")->requests.at(0).facts.needs & kCapJsonSchema);
}

// Those of MCP servers have up to 128 characters.
TEST(ChatTest, LongNamesOfTools) {
  for (const size_t length : {128u, 129u})
    EXPECT_EQ(
        length <= 128,
        ParseChat(R"({"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":)"
                  R"({"name":")" +
                      std::string(length, 'a') + R"("}}]})",
                  {})
            .has_value());
}

TEST(CompletionTest, Prompts) {
  const std::tuple<const char*, size_t, Kind> kTable[] = {
      {R"("a")", 1, Kind::kText},
      {R"(["a","b"])", 2, Kind::kText},
      {"[1,2,3]", 1, Kind::kTokens},
      {"[[1],[2,3]]", 2, Kind::kTokens},
  };
  for (const auto& [prompt, count, kind] : kTable) {
    const auto call = ParseCompletion(std::string(R"({"model":"m","prompt":)") + prompt + "}", {});
    ASSERT_TRUE(call) << prompt;
    EXPECT_EQ(call->requests.size(), count);
    EXPECT_EQ(call->requests.at(0).facts.kind, kind);
    EXPECT_EQ(call->requests.at(0).facts.max_tokens, 16u);
  }
  for (const char* prompt : {"null", "[]", "{}", "3", "[-1]", "[[]]", "[1,\"a\"]", "[\"a\",1]", "[1.5]"}) {
    const auto call = ParseCompletion(std::string(R"({"prompt":)") + prompt + "}", {});
    ASSERT_FALSE(call) << prompt;
    EXPECT_EQ(call.error().param, "prompt");
  }
  EXPECT_TRUE(ParseCompletion(R"({"prompt":["a","b"],"n":9})", {16}));
  EXPECT_FALSE(ParseCompletion(R"({"prompt":["a","b"],"n":17})", {16}));
  EXPECT_FALSE(ParseCompletion(R"({"prompt":["a","b"],"n":9})", {16, 17}));
}

}  // namespace
}  // namespace cyllm::openai
