// The real model, when CY_TEST_MODEL names its file: tools, formats, resuming, embeddings.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <regex>
#include <set>

#include "llama_cpp/backend.h"
#include "llama_cpp/engine.h"
#include "llama_cpp/llama_model.h"
#include "llama_cpp/test_client.h"

namespace cyllm::llama {
namespace {

using testing::ChoiceResult;
using testing::Gatherer;
using testing::Result;
using testing::TestRequest;

class AnswerModelTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = Load("").release(); }
  static void TearDownTestSuite() {
    delete model_;
    model_ = nullptr;
  }
  static std::unique_ptr<LoadedModel> Load(const std::string& chat_template) {
    const char* path = std::getenv("CY_TEST_MODEL");
    if (!path || !*path) return nullptr;
    std::string why;
    SetLog(nullptr);
    EXPECT_TRUE(LoadBackends(CY_LLAMA_BACKENDS, &why)) << why;
    Options options;
    options.model_path = path;
    options.max_num_seqs = 4;
    options.max_model_len = 1024;
    options.chat_template = chat_template;
    cyllm_error error{};
    error.size = sizeof error;
    auto model = LoadModel(options, [](double, const std::string&) { return true; }, &error);
    EXPECT_TRUE(model) << error.message;
    return model;
  }
  void SetUp() override {
    if (!model_) GTEST_SKIP() << "CY_TEST_MODEL names no model";
    Start(*model_);
  }
  void Start(const LoadedModel& model, bool prefix_caching = true) {
    engine_.reset();
    EngineLimits limits{.prefill_chunk = 256, .max_waiting = 64};
    limits.prefix_caching = prefix_caching;
    engine_ = std::make_unique<Engine>(*model.decoder, *model.vocabulary, *model.chat, limits,
                                       gatherer_.callbacks(), model.aside);
  }
  void Submit(TestRequest& request) {
    cyllm_error error{};
    error.size = sizeof error;
    ASSERT_EQ(engine_->Submit(request.get(), &error), CYLLM_OK) << error.message;
  }

  // A function that is named is called once, although several calls are allowed.
  void ExpectOneNamedCall(uint64_t id, const std::string& question);

  static LoadedModel* model_;
  Gatherer gatherer_;
  std::unique_ptr<Engine> engine_;
};

LoadedModel* AnswerModelTest::model_ = nullptr;

constexpr const char* kWeather = R"({"type":"function","function":{"name":"get_weather",
    "description":"The weather of a city","parameters":{"type":"object","properties":{
      "city":{"type":"string","maxLength":20},"unit":{"enum":["C","F"]}},"required":["city","unit"]}}})";
constexpr const char* kClock = R"({"type":"function","function":{"name":"clock"}})";

boost::json::object Parsed(const std::string& text) {
  boost::json::error_code failed;
  const boost::json::value v = boost::json::parse(text, failed);
  EXPECT_TRUE(!failed && v.is_object()) << text;
  return v.is_object() ? v.get_object() : boost::json::object();
}

void ExpectWeather(const ChoiceResult& choice) {
  ASSERT_GE(choice.calls.size(), 1u) << choice.text;
  EXPECT_EQ(choice.reason, static_cast<uint32_t>(CYLLM_FINISH_TOOL_CALLS));
  EXPECT_EQ(choice.text, "");
  const boost::json::object arguments = Parsed(choice.calls[0].arguments);
  ASSERT_TRUE(arguments.contains("city") && arguments.at("city").is_string()) << choice.calls[0].arguments;
  ASSERT_TRUE(arguments.contains("unit"));
  EXPECT_TRUE(arguments.at("unit") == "C" || arguments.at("unit") == "F");
}

// CY_TEST_REPEAT: how often the constrained requests are made, each with another seed.
int Repeats() {
  const char* n = std::getenv("CY_TEST_REPEAT");
  return n ? std::atoi(n) : 4;
}

void AnswerModelTest::ExpectOneNamedCall(uint64_t id, const std::string& question) {
  for (int seed = 0; seed < Repeats(); ++seed) {
    TestRequest request(++id);
    request.Chat(question).tools = std::string("[") + kWeather + "," + kClock + "]";
    request.tool_choice = R"({"type":"function","function":{"name":"get_weather"}})";
    request.request.parallel_tool_calls = 1;
    request.request.max_tokens = 400;
    request.request.has_seed = 1;
    request.request.seed = seed;
    request.sampling.temperature = seed == 0 ? 0 : 1.2;
    Submit(request);
    const Result r = gatherer_.Wait(id);
    ASSERT_EQ(r.code, 0) << r.message;
    ASSERT_EQ(r.choices.at(0).calls.size(), 1u);
    EXPECT_EQ(r.choices.at(0).calls[0].name, "get_weather");
    ExpectWeather(r.choices.at(0));
  }
}

TEST_F(AnswerModelTest, AForcedCallIsOne) { ExpectOneNamedCall(500, "What is the weather in Oslo?"); }

TEST_F(AnswerModelTest, ARequiredCallIsOneOrMore) {
  for (const bool parallel : {false, true}) {
    TestRequest request(4000u + parallel);
    request.Chat("What is the weather in Oslo?");
    request.tools = std::string("[") + kClock + "," + kWeather + "]";
    request.tool_choice = R"("required")";
    request.request.parallel_tool_calls = parallel;
    request.request.max_tokens = 300;
    Submit(request);
    const ChoiceResult choice = gatherer_.Wait(request.request.id).choices.at(0);
    ASSERT_GE(choice.calls.size(), 1u);
    if (!parallel) {
      EXPECT_EQ(choice.calls.size(), 1u);
    }
    for (const ChoiceResult::Call& call : choice.calls) {
      EXPECT_TRUE(call.name == "clock" || call.name == "get_weather");
      Parsed(call.arguments);
    }
  }
}

TEST_F(AnswerModelTest, ToolsDoNotForceACall) {
  TestRequest request(4010);
  request.Chat("Translate 'good morning' to Spanish.");
  request.tools = std::string("[") + kWeather + "]";
  request.request.max_tokens = 60;
  Submit(request);
  const Result r = gatherer_.Wait(4010);
  EXPECT_EQ(r.code, 0) << r.message;
  TestRequest none(4011);
  none.Chat("Translate 'good morning' to Spanish.");
  none.tools = request.tools;
  none.tool_choice = R"("none")";
  Submit(none);
  EXPECT_EQ(gatherer_.Wait(4011).choices.at(0).text, "Hoy, buen hora!");
}

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

TEST_F(AnswerModelTest, ALastMessageOfTheAssistantIsContinued) {
  TestRequest request(4040);
  request.messages =
      R"([{"role":"user","content":"Count from one to ten in words."},{"role":"assistant","content":"1. 1\n2. 2\n3. "}])";
  Submit(request);
  const std::string text = gatherer_.Wait(4040).choices.at(0).text;
  EXPECT_TRUE(text.starts_with("3\n4. 4\n5. 5\n6. 6")) << text;
}

// Without a prefix cache: what one request leaves there is not computed as another would.
TEST_F(AnswerModelTest, AnInterruptedRequestGoesOnTheSame) {
  Start(*model_, false);
  uint64_t id = 7000;
  const auto check = [&](const std::function<void(TestRequest&)>& ask) {
    TestRequest whole(++id);
    whole.request.has_seed = 1;
    whole.request.seed = 11;
    ask(whole);
    Submit(whole);
    const Result expected = gatherer_.Wait(id);
    ASSERT_EQ(expected.code, 0) << expected.message;
    const std::vector<Result> cuts = gatherer_.Cuts(id);
    for (size_t cut = 0; cut < cuts.size(); cut += 5) {
      TestRequest rest(++id);
      rest.request.has_seed = 1;
      rest.request.seed = 11;
      ask(rest);
      rest.Resume(cuts[cut]);
      gatherer_.Before(id, cuts[cut]);
      Submit(rest);
      const Result got = gatherer_.Wait(id);
      ASSERT_EQ(got.code, 0) << got.message;
      for (const auto& [i, choice] : expected.choices) {
        EXPECT_EQ(got.choices.at(i).text, choice.text) << cut;
        EXPECT_EQ(got.choices.at(i).calls, choice.calls) << cut;
        EXPECT_EQ(got.choices.at(i).reason, choice.reason) << cut;
        EXPECT_EQ(got.choices.at(i).completion_tokens, choice.completion_tokens) << cut;
      }
    }
  };
  check([](TestRequest& r) { r.Chat("Count from one to ten in words."); });
  check([](TestRequest& r) {
    r.Chat("Tell me a story.").request.max_tokens = 24;
    r.request.n = 2;
    r.sampling.temperature = 1;
    r.sampling.repetition_penalty = 1.1;
    r.Stop({" the"});
  });
  check([](TestRequest& r) {
    r.Chat("What is the weather in Oslo?").tools = std::string("[") + kWeather + "]";
    r.tool_choice = R"("required")";
    r.request.parallel_tool_calls = 0;
    r.sampling.temperature = 1;
    r.request.max_tokens = 80;
  });
}

// A template that describes tools and writes calls in a form that llama.cpp finds out.
constexpr const char* kToolTemplate =
    R"j({%- if tools %}{{- '<|im_start|>system\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}
{{- "The functions:\n" }}
{%- for tool in tools %}{{- tool | tojson }}{{- "\n" }}{%- endfor %}
{{- '<|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}{%- endif %}
{%- for message in messages %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant' }}
{%- if message.content %}{{- '\n' + message.content }}{%- endif %}
{%- for tool_call in message.tool_calls %}
{%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
{{- '\n<tool_call>\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}{{- tool_call.arguments | tojson }}{{- '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %})j";

TEST_F(AnswerModelTest, ATemplateWithToolsIsUsed) {
  const auto model = Load(kToolTemplate);
  ASSERT_TRUE(model);
  ChatInput in;
  in.messages = R"([{"role":"user","content":"What is the weather in Oslo?"}])";
  in.tools = std::string("[") + kWeather + "]";
  ChatPrompt prompt;
  ChatError error;
  ASSERT_TRUE(model->chat->Render(in, &prompt, &error)) << error.message;
  EXPECT_NE(prompt.text.find("The functions:"), std::string::npos) << prompt.text;
  EXPECT_EQ(prompt.text.find("exactly like this"), std::string::npos) << "ours";
  ASSERT_TRUE(prompt.constraint);
  EXPECT_TRUE(prompt.constraint->lazy);
  EXPECT_FALSE(prompt.constraint->trigger_words.empty());
  Start(*model);
  for (const bool parallel : {false, true}) {
    TestRequest request(9000u + parallel);
    request.Chat("What is the weather in Oslo?").tools = in.tools;
    request.tool_choice = R"("required")";
    request.request.parallel_tool_calls = parallel;
    request.request.max_tokens = parallel ? 400 : 200;
    Submit(request);
    const Result r = gatherer_.Wait(request.request.id);
    ASSERT_EQ(r.code, 0) << r.message;
    if (r.choices.at(0).reason != CYLLM_FINISH_LENGTH) ExpectWeather(r.choices.at(0));
    ASSERT_FALSE(r.choices.at(0).calls.empty())
        << parallel << " " << r.choices.at(0).reason << " " << r.choices.at(0).text << " "
        << r.choices.at(0).tokens.size();
    EXPECT_EQ(r.choices.at(0).calls[0].name, "get_weather");
    if (r.choices.at(0).reason != CYLLM_FINISH_LENGTH) Parsed(r.choices.at(0).calls[0].arguments);
  }
  engine_.reset();
}

TEST_F(AnswerModelTest, OneCallIsOneInTheTemplatesFormToo) {
  const auto model = Load(kToolTemplate);
  ASSERT_TRUE(model);
  ChatInput in;
  in.messages = R"([{"role":"user","content":"What is the weather in Oslo and in Rome?"}])";
  in.tools = std::string("[") + kWeather + "," + kClock + "]";
  const std::string call =
      "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\", \"unit\": "
      "\"C\"}}\n</tool_call>";
  // Whether another call may follow.
  const auto more = [&](const char* choice, bool parallel = true) {
    in.tool_choice = choice;
    in.parallel_tool_calls = parallel;
    ChatPrompt prompt;
    ChatError error;
    EXPECT_TRUE(model->chat->Render(in, &prompt, &error)) << error.message;
    EXPECT_NE(prompt.text.find("The functions:"), std::string::npos) << "ours";
    EXPECT_TRUE(prompt.constraint);
    GrammarMatcher matcher(prompt.constraint->grammar, prompt.constraint->texts);
    EXPECT_EQ(matcher.CanEnd(matcher.start()), in.tool_choice == R"("auto")" && parallel);
    const auto after = matcher.Next(matcher.start(), call);
    EXPECT_NE(after, GrammarMatcher::kDead);
    return matcher.Next(after, "\n" + call) != GrammarMatcher::kDead ||
           matcher.Next(after, call) != GrammarMatcher::kDead;
  };
  constexpr const char* kNamed = R"({"type":"function","function":{"name":"get_weather"}})";
  EXPECT_TRUE(more(R"("auto")"));
  EXPECT_FALSE(more(R"("auto")", false));
  EXPECT_TRUE(more(R"("required")"));
  EXPECT_FALSE(more(R"("required")", false));
  EXPECT_FALSE(more(kNamed));
  Start(*model);
  ExpectOneNamedCall(9100, "What is the weather in Oslo and in Rome?");
  engine_.reset();
}

// What a model can be made to write: by logit_bias, or by the beginning of its answer.
TEST_F(AnswerModelTest, DeeplyNestedAnswersAreReadOrPassedOn) {
  const auto model = Load(kToolTemplate);
  ASSERT_TRUE(model);
  ChatInput in;
  in.messages = R"([{"role":"user","content":"What is the weather in Oslo?"}])";
  in.tools = std::string("[") + kWeather + "]";
  ChatPrompt prompt;
  ChatError error;
  ASSERT_TRUE(model->chat->Render(in, &prompt, &error)) << error.message;
  for (const size_t depth : {100u, 9'000u, 500'000u}) {
    const auto parser = prompt.parser();
    std::vector<MessagePart> parts;
    const std::string begin = "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": ";
    parser->Push(begin + std::string(depth, '['), &parts);
    parser->Push("[", &parts);
    parser->Finish(&parts);
    size_t length = 0;
    for (const MessagePart& part : parts) length += part.text.size();
    EXPECT_EQ(parts.front().kind, depth < 10'000 ? MessagePart::Kind::kToolCall : MessagePart::Kind::kText)
        << depth;
    EXPECT_GT(length, depth);
  }
}

TEST_F(AnswerModelTest, MessagesStayInTheirOrderWhereTheTemplateTakesThem) {
  const auto rendered = [](const std::string& chat_template) {
    const auto model = Load(chat_template);
    ChatInput in;
    in.messages = R"([{"role":"system","content":"one"},{"role":"user","content":"q"},
        {"role":"system","content":"two"},{"role":"user","content":"r"}])";
    ChatPrompt prompt;
    ChatError error;
    EXPECT_TRUE(model && model->chat->Render(in, &prompt, &error)) << error.message;
    return prompt.text;
  };
  const std::string each =
      R"j({%- for m in messages %}{{- '[' + m.role + ':' + m.content + ']' }}{%- endfor %})j";
  EXPECT_EQ(rendered(each), "[system:one][user:q][system:two][user:r]");
  EXPECT_EQ(rendered(R"j({%- for m in messages %}{%- if m.role == 'system' and not loop.first %}
      {{- raise_exception('System message must be at the beginning.') }}{%- endif %}{%- endfor %})j" +
                     each),
            "[system:one\n\ntwo][user:q\n\nr]");
}

TEST_F(AnswerModelTest, DeepArgumentsInTheHistoryEndNobody) {
  const auto model = Load(kToolTemplate);
  ASSERT_TRUE(model);
  const auto rendered = [&](const std::string& arguments, ChatError* error, const std::string& result = "x") {
    const boost::json::value call = {
        {"id", "c"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", arguments}}}};
    const boost::json::array messages = {{{"role", "user"}, {"content", "q"}},
                                         {{"role", "assistant"}, {"content", ""}, {"tool_calls", {call}}},
                                         {{"role", "tool"}, {"tool_call_id", "c"}, {"content", result}}};
    ChatInput in;
    in.messages = boost::json::serialize(messages);
    ChatPrompt prompt;
    return model->chat->Render(in, &prompt, error);
  };
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  ChatError error;
  EXPECT_TRUE(rendered(R"({"a":")" + std::string(500, '[') + R"(\"{"})", &error)) << error.message;
  EXPECT_TRUE(rendered(nested(512), &error, "f(" + nested(600) + ")")) << error.message;
  for (const size_t depth : {513u, 300'000u}) {
    EXPECT_FALSE(rendered(nested(depth), &error));
    EXPECT_STREQ(error.param, "messages");
    EXPECT_LT(error.message.size(), 500u);
    EXPECT_FALSE(rendered("{}", &error, nested(depth))) << "some templates read results as JSON";
  }
}

TEST_F(AnswerModelTest, ThoughtsOfATemplateThatThinks) {
  const auto model = Load(
      "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
      "{%- if m.reasoning_content %}{{- '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{%- endif %}"
      "{{- m.content + '<|im_end|>\n' }}{%- endfor %}"
      "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
      "{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\n\n</think>\n\n' }}"
      "{%- endif %}{%- endif %}");
  ASSERT_TRUE(model);
  ChatInput in;
  in.messages = R"([{"role":"user","content":"hi"}])";
  ChatPrompt prompt;
  ChatError error;
  ASSERT_TRUE(model->chat->Render(in, &prompt, &error)) << error.message;
  ASSERT_TRUE(prompt.parser);
  std::vector<MessagePart> parts;
  const auto parser = prompt.parser();
  parser->Push("<think>\nhm</think>yes", &parts);
  parser->Finish(&parts);
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].kind, MessagePart::Kind::kReasoning);
  in.kwargs = R"({"enable_thinking":false})";
  ChatPrompt plain;
  ASSERT_TRUE(model->chat->Render(in, &plain, &error)) << error.message;
  EXPECT_FALSE(plain.parser);
}

std::vector<float> Embed(Gatherer& gatherer, Engine& engine, uint64_t id, std::vector<std::string> texts,
                         uint32_t dimensions, std::vector<std::vector<float>>* all) {
  TestRequest request(id);
  request.request.kind = CYLLM_KIND_EMBED;
  request.request.dimensions = dimensions;
  request.inputs = std::move(texts);
  cyllm_error error{};
  error.size = sizeof error;
  EXPECT_EQ(engine.Submit(request.get(), &error), CYLLM_OK) << error.message;
  const Result r = gatherer.Wait(id);
  EXPECT_EQ(r.code, 0) << r.message;
  if (all) *all = r.values;
  return r.values.empty() ? std::vector<float>() : r.values[0];
}

double Dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) sum += double{a[i]} * b[i];
  return sum;
}

TEST_F(AnswerModelTest, EmbeddingsAreUnitVectorsThatTellTextsApart) {
  std::vector<std::vector<float>> all;
  std::vector<std::string> texts = {"The cat sleeps on the sofa.", "A cat is sleeping on the couch.",
                                    "Interest rates rose by two percent."};
  for (int i = 0; i < 30; ++i) texts.push_back("Text number " + std::to_string(i));
  Embed(gatherer_, *engine_, 8000, texts, 0, &all);
  ASSERT_EQ(all.size(), texts.size());
  for (const auto& vector : all) {
    EXPECT_EQ(vector.size(), 576u);
    EXPECT_NEAR(Dot(vector, vector), 1, 1e-4);
  }
  EXPECT_GT(Dot(all[0], all[1]), Dot(all[0], all[2]));
  // Alone or beside others, in one step or in several: the same vector.
  std::string longer;
  for (int i = 0; i < 150; ++i) longer += "word " + std::to_string(i) + " ";
  const auto alone = Embed(gatherer_, *engine_, 8001, {texts[0]}, 0, nullptr);
  EXPECT_GT(Dot(alone, all[0]), 0.999);
  const auto one = Embed(gatherer_, *engine_, 8002, {longer}, 0, nullptr);
  Embed(gatherer_, *engine_, 8003, {texts[2], longer, texts[0]}, 0, &all);
  EXPECT_GT(Dot(one, all[1]), 0.999);
  EXPECT_GT(Dot(alone, all[2]), 0.999);
  const auto cut = Embed(gatherer_, *engine_, 8004, {texts[0]}, 32, nullptr);
  ASSERT_EQ(cut.size(), 32u);
  EXPECT_NEAR(Dot(cut, cut), 1, 1e-4);
  EXPECT_NEAR(cut[0] / cut[1], alone[0] / alone[1], 1e-2 * std::abs(alone[0] / alone[1]));
}

TEST_F(AnswerModelTest, EmbeddingsAreRefusedWhereTheyCannotBe) {
  std::string longer;
  for (int i = 0; i < 3000; ++i) longer += "word ";
  TestRequest request(8010);
  request.request.kind = CYLLM_KIND_EMBED;
  request.inputs = {"short", longer};
  Submit(request);
  const Result r = gatherer_.Wait(8010);
  EXPECT_EQ(r.reason, "context_length_exceeded");
  EXPECT_FALSE(r.accepted);
  TestRequest rank(8011);
  rank.request.kind = CYLLM_KIND_RERANK;
  rank.inputs = {"a"};
  cyllm_error error{};
  error.size = sizeof error;
  EXPECT_EQ(engine_->Submit(rank.get(), &error), CYLLM_UNIMPLEMENTED);
  TestRequest infill(8012);
  infill.Text("def f(").request.suffix = sdk::Str("return x");
  Submit(infill);
  EXPECT_EQ(gatherer_.Wait(8012).code, CYLLM_UNIMPLEMENTED);
}

TEST_F(AnswerModelTest, EmbeddingsStopWhenCancelledAndWaitForCredit) {
  std::vector<std::string> texts(200, "A sentence that is embedded again and again.");
  TestRequest request(8020);
  request.request.kind = CYLLM_KIND_EMBED;
  request.request.credit = 3;
  request.inputs = texts;
  Submit(request);
  gatherer_.WaitValues(8020, 3);
  TestRequest chat(8021);  // generation goes on beside it
  chat.Chat("Translate 'good morning' to Spanish.");
  Submit(chat);
  EXPECT_EQ(gatherer_.Wait(8021).choices.at(0).text, "Hoy, buen hora!");
  EXPECT_EQ(gatherer_.Now(8020).values.size(), 3u);
  engine_->Cancel(8020);
  EXPECT_EQ(gatherer_.Wait(8020).code, CYLLM_CANCELLED);
}

TEST_F(AnswerModelTest, TextsToTokensAndBack) {
  TestRequest there(8030);
  there.request.kind = CYLLM_KIND_TOKENIZE;
  there.prompt = "Hello, w\u00f6rld!";
  Submit(there);
  const ChoiceResult c = gatherer_.Wait(8030).choices.at(0);
  EXPECT_EQ(c.tokens, model_->vocabulary->Tokenize(there.prompt));
  EXPECT_EQ(c.text, there.prompt);
  EXPECT_TRUE(c.pieces.empty());
  TestRequest pieces(8033);
  pieces.request.kind = CYLLM_KIND_TOKENIZE;
  pieces.sampling.logprobs = 1;
  pieces.prompt = there.prompt;
  Submit(pieces);
  std::string joined;
  for (const std::string& piece : gatherer_.Wait(8033).choices.at(0).pieces) joined += piece;
  EXPECT_EQ(joined, there.prompt);
  TestRequest back(8031);
  back.Tokens(c.tokens).request.kind = CYLLM_KIND_DETOKENIZE;
  Submit(back);
  EXPECT_EQ(gatherer_.Wait(8031).choices.at(0).text, there.prompt);
  TestRequest chat(8032);
  chat.Chat("hi").request.kind = CYLLM_KIND_TOKENIZE;
  Submit(chat);
  const ChoiceResult messages = gatherer_.Wait(8032).choices.at(0);
  EXPECT_NE(messages.text.find("<|im_start|>user\nhi<|im_end|>"), std::string::npos) << messages.text;
}

}  // namespace
}  // namespace cyllm::llama
