// The real model, when CY_TEST_MODEL names its file: what answers are held to.
#include <regex>
#include <set>

#include "llama_cpp/answer_fixture.h"

namespace cyllm::llama {
namespace {

using testing::AnswerModelTest;
using testing::ChoiceResult;
using testing::kClock;
using testing::Parsed;
using testing::Repeats;
using testing::Result;
using testing::TestRequest;

TEST_F(AnswerModelTest, SchemasAreHeldTo) {
  for (int i = 0; i < Repeats(); ++i) {
    TestRequest request(5000u + static_cast<uint64_t>(i));
    request.Chat("Describe a person as JSON.");
    request.response_format =
        R"({"type":"json_schema","json_schema":{"name":"person","schema":{"type":"object",
        "properties":{"name":{"type":"string","maxLength":12},"age":{"type":"integer","minimum":1,"maximum":120},
          "tags":{"type":"array","items":{"enum":["x","y"]},"minItems":1,"maxItems":3}},
        "required":["name","age","tags"],"additionalProperties":false}}})";
    request.request.max_tokens = 200;
    request.request.has_seed = 1;
    request.request.seed = i;
    request.sampling.temperature = i == 0 ? 0 : 1.5;
    Submit(request);
    const Result r = gatherer_.Wait(request.request.id);
    ASSERT_EQ(r.code, 0) << r.message;
    EXPECT_EQ(r.choices.at(0).reason, static_cast<uint32_t>(CYLLM_FINISH_STOP));
    const boost::json::object person = Parsed(r.choices.at(0).text);
    ASSERT_EQ(person.size(), 3u) << r.choices.at(0).text;
    EXPECT_LE(person.at("name").as_string().size(), 48u);
    const int64_t age = person.at("age").as_int64();
    EXPECT_TRUE(age >= 1 && age <= 120) << age;
    const size_t tags = person.at("tags").as_array().size();
    EXPECT_TRUE(tags >= 1 && tags <= 3) << tags;
  }
}

TEST_F(AnswerModelTest, ObjectsAndGrammars) {
  TestRequest object(4020);
  object.Chat("Give me a JSON object with one short key.").response_format = R"({"type":"json_object"})";
  object.request.max_tokens = 300;
  Submit(object);
  const ChoiceResult choice = gatherer_.Wait(4020).choices.at(0);
  if (choice.reason == CYLLM_FINISH_STOP) {
    Parsed(choice.text);
  } else {
    EXPECT_EQ(choice.text[0], '{');
  }
  TestRequest grammar(4021);
  grammar.Chat("Yes or no?").response_format =
      R"({"type":"grammar","grammar":"root ::= (\"yes\" | \"no\") \"!\"{3}"})";
  Submit(grammar);
  const std::string text = gatherer_.Wait(4021).choices.at(0).text;
  EXPECT_TRUE(text == "yes!!!" || text == "no!!!") << text;
}

TEST_F(AnswerModelTest, ChoicesAndExpressionsAreHeldToInChatsAndCompletions) {
  uint64_t id = 4100;
  std::set<std::string> chosen;
  for (int seed = 0; seed < 3 * Repeats(); ++seed) {
    TestRequest chat(++id), text(++id), tokens(++id);
    chat.Chat("Left or right?").extra = R"({"user":"u","guided_choice":["left","right"]})";
    text.Text("The year is ").extra = R"({"structured_outputs":{"regex":"[0-9]{4}"}})";
    tokens.Tokens({504, 1070}).extra =
        R"({"response_format":{"type":"grammar","grammar":"root ::= \"ab\"+ \"c\""}})";
    for (TestRequest* request : {&chat, &text, &tokens}) {
      request->request.has_seed = 1;
      request->request.seed = seed;
      request->sampling.temperature = 1.5;
      request->request.max_tokens = 100;
      Submit(*request);
    }
    chosen.insert(gatherer_.Wait(chat.request.id).choices.at(0).text);
    const ChoiceResult year = gatherer_.Wait(text.request.id).choices.at(0);
    EXPECT_TRUE(std::regex_match(year.text, std::regex("[0-9]{4}"))) << year.text;
    EXPECT_EQ(year.reason, static_cast<uint32_t>(CYLLM_FINISH_STOP));
    const ChoiceResult rest = gatherer_.Wait(tokens.request.id).choices.at(0);
    EXPECT_TRUE(std::regex_match(rest.text, std::regex("(ab)+c|(ab)*a?"))) << rest.text;
  }
  EXPECT_EQ(chosen, (std::set<std::string>{"left", "right"}));
}

TEST_F(AnswerModelTest, AFormBesideAForcedCallIsRefused) {
  TestRequest request(4200);
  request.Chat("x").tools = std::string("[") + kClock + "]";
  request.extra = R"({"guided_choice":["a"]})";
  Submit(request);
  EXPECT_EQ(gatherer_.Wait(4200).code, CYLLM_OK);
  TestRequest forced(4201);
  forced.Chat("x").tools = request.tools;
  forced.extra = request.extra;
  forced.tool_choice = R"("required")";
  Submit(forced);
  const Result r = gatherer_.Wait(4201);
  EXPECT_EQ(r.code, CYLLM_INVALID_ARGUMENT);
  EXPECT_EQ(r.param, "guided_choice");
  EXPECT_NE(r.message.find("tool_choice"), std::string::npos) << r.message;
}

TEST_F(AnswerModelTest, WhatCannotBeHeldToIsRefused) {
  std::string wide = R"({"type":"object","properties":{)";
  for (int i = 0; i < 1000; ++i) wide += (i ? ",\"p" : "\"p") + std::to_string(i) + "\":{}";
  std::string deep = "{}";
  for (int i = 0; i < 200; ++i) deep = R"({"type":"array","items":)" + deep + "}";
  uint64_t id = 6000;
  for (
      const std::string& schema :
      {std::string("7"), std::string(R"({"type":"wizard"})"), std::string(R"({"$ref":"#/nowhere"})"),
       std::string(R"({"$ref":"#"})"),
       std::string(
           R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"],"additionalProperties":false})"),
       std::string(R"({"type":"array","items":{},"minItems":1000000000})"), wide + "}}", deep}) {
    TestRequest request(++id);
    request.Chat("x").response_format =
        R"({"type":"json_schema","json_schema":{"name":"s","schema":)" + schema + "}}";
    Submit(request);
    const Result r = gatherer_.Wait(id);
    EXPECT_EQ(r.code, CYLLM_INVALID_ARGUMENT) << schema.substr(0, 60);
    EXPECT_EQ(r.param, "response_format");
    EXPECT_FALSE(r.accepted);
  }
  TestRequest grammar(++id);
  grammar.Chat("x").response_format = R"({"type":"grammar","grammar":"root ::= root"})";
  Submit(grammar);
  EXPECT_EQ(gatherer_.Wait(id).param, "response_format");
  for (const char* kind : {"guided_grammar", "guided_regex"}) {
    for (const bool chat : {false, true}) {
      TestRequest wrong(++id);
      if (chat) {
        wrong.Chat("x");
      } else {
        wrong.Text("x");
      }
      wrong.extra = std::string("{\"") + kind + R"(":"root ::= (root"})";
      Submit(wrong);
      const Result r = gatherer_.Wait(id);
      EXPECT_EQ(r.code, CYLLM_INVALID_ARGUMENT);
      EXPECT_EQ(r.param, kind) << r.message;
      EXPECT_FALSE(r.accepted);
    }
  }
  TestRequest after(++id);
  after.Chat("Translate 'good morning' to Spanish.");
  Submit(after);
  EXPECT_EQ(gatherer_.Wait(id).choices.at(0).text, "Hoy, buen hora!");
}

// As the tools of Claude Code have it.
TEST_F(AnswerModelTest, HugeMaximaAndLongDescriptionsAreNoReasonToRefuse) {
  const std::string schema = R"({"type":"object","properties":{"script":{"type":"string","maxLength":524288},
      "lines":{"type":"array","maxItems":1e20,"items":{"type":"string","maxLength":3}}},
      "required":["script","lines"],"additionalProperties":false)";
  TestRequest format(6100);
  format.Chat("Write a script.").response_format =
      R"({"type":"json_schema","json_schema":{"name":"s","schema":)" + schema + R"(,"description":")" +
      std::string(9000, 'd') + "\"}}}";
  TestRequest tool(6101);
  tool.Chat("Write a script.").tools =
      R"([{"type":"function","function":{"name":"run","parameters":)" + schema + "}}}]";
  tool.tool_choice = R"("required")";
  for (TestRequest* request : {&format, &tool}) {
    request->request.max_tokens = 8;
    Submit(*request);
    const Result r = gatherer_.Wait(request->request.id);
    EXPECT_EQ(r.code, CYLLM_OK) << r.message;
    EXPECT_TRUE(r.accepted);
  }
}

TEST_F(AnswerModelTest, AnEnumOf20000IsHeldTo) {
  std::string values;
  for (int i = 0; i < 20'000; ++i) values += (i ? ",\"v" : "\"v") + std::to_string(i) + "\"";
  TestRequest request(4030);
  request.Chat("Choose.").response_format =
      R"({"type":"json_schema","json_schema":{"name":"s","schema":{"enum":[)" + values + "]}}}";
  Submit(request);
  const Result r = gatherer_.Wait(4030);
  ASSERT_EQ(r.code, 0) << r.message;
  const std::string text = r.choices.at(0).text;
  ASSERT_TRUE(text.starts_with("\"v") && text.ends_with("\"")) << text;
  EXPECT_LT(std::stoi(text.substr(2)), 20'000);
}

}  // namespace
}  // namespace cyllm::llama
