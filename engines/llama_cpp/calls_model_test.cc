// The real model, when CY_TEST_MODEL names its file: calls of tools, in our form and in a template's.
#include "llama_cpp/answer_fixture.h"

namespace cyllm::llama {
namespace {

using testing::AnswerModelTest;
using testing::ChoiceResult;
using testing::kClock;
using testing::kToolTemplate;
using testing::kWeather;
using testing::Parsed;
using testing::RenderWeather;
using testing::Repeats;
using testing::Result;
using testing::TestRequest;

void ExpectWeather(const ChoiceResult& choice) {
  ASSERT_GE(choice.calls.size(), 1u) << choice.text;
  EXPECT_EQ(choice.reason, static_cast<uint32_t>(CYLLM_FINISH_TOOL_CALLS));
  EXPECT_EQ(choice.text, "");
  const boost::json::object arguments = Parsed(choice.calls[0].arguments);
  ASSERT_TRUE(arguments.contains("city") && arguments.at("city").is_string()) << choice.calls[0].arguments;
  ASSERT_TRUE(arguments.contains("unit"));
  EXPECT_TRUE(arguments.at("unit") == "C" || arguments.at("unit") == "F");
}

class CallsModelTest : public AnswerModelTest {
 protected:
  // A function that is named is called once, although several calls are allowed.
  void ExpectOneNamedCall(uint64_t id, const std::string& question) {
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
};

TEST_F(CallsModelTest, AForcedCallIsOne) { ExpectOneNamedCall(500, "What is the weather in Oslo?"); }

TEST_F(CallsModelTest, ARequiredCallIsOneOrMore) {
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

TEST_F(CallsModelTest, ToolsDoNotForceACall) {
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

TEST_F(CallsModelTest, ATemplateWithToolsIsUsed) {
  const auto model = Load(kToolTemplate);
  ASSERT_TRUE(model);
  ChatPrompt prompt;
  ASSERT_NO_FATAL_FAILURE(RenderWeather(*model, &prompt));
  EXPECT_NE(prompt.text.find("The functions:"), std::string::npos) << prompt.text;
  EXPECT_EQ(prompt.text.find("exactly like this"), std::string::npos) << "ours";
  ASSERT_TRUE(prompt.constraint);
  EXPECT_TRUE(prompt.constraint->lazy);
  EXPECT_FALSE(prompt.constraint->trigger_words.empty());
  Start(*model);
  for (const bool parallel : {false, true}) {
    TestRequest request(9000u + parallel);
    request.Chat("What is the weather in Oslo?").tools = std::string("[") + kWeather + "]";
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

TEST_F(CallsModelTest, OneCallIsOneInTheTemplatesFormToo) {
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

}  // namespace
}  // namespace cyllm::llama
