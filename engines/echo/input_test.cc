// What the engine reads: its options, prompts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "echo/options.h"
#include "echo/prompt.h"
#include "echo/script.h"
#include "echo/values.h"
#include "sdk/engine.hpp"

namespace cyllm::echo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::optional<Prompt> Chat(std::string_view messages, std::string* error) {
  cyllm_request request{};
  request.kind = CYLLM_KIND_CHAT;
  request.messages_json = sdk::Str(messages);
  return ReadPrompt(request, error);
}

TEST(OptionsTest, AllOfThem) {
  std::string error;
  const auto options = ParseOptions(R"({"threads": 2, "model": {"id": "m", "ttft_ms": 1.5, "itl_ms": 2,
      "load_ms": 3, "reply_tokens": 4, "fail_after": 5, "hang_after": 6, "crash_after": 7, "refuse": true,
      "load_fails": true, "stamp": "monotonic"}})",
                                    &error);
  ASSERT_TRUE(options) << error;
  EXPECT_EQ(options->ttft_ms, 1.5);
  EXPECT_EQ(options->itl_ms, 2);
  EXPECT_EQ(options->load_ms, 3);
  EXPECT_EQ(options->reply_tokens, 4u);
  EXPECT_EQ(options->fail_after, 5u);
  EXPECT_EQ(options->hang_after, 6u);
  EXPECT_EQ(options->crash_after, 7u);
  EXPECT_TRUE(options->refuse && options->load_fails && options->stamp);
}

TEST(OptionsTest, NoneIsFine) {
  std::string error;
  for (const char* config : {"{}", R"({"model":{}})", R"({"model":{"reply_tokens":null}})"})
    EXPECT_TRUE(ParseOptions(config, &error)) << config << error;
}

TEST(OptionsTest, MistakesAreNamed) {
  for (const auto& [config, expected] :
       {std::pair{"{", "no JSON object"},
        {"[]", "no JSON object"},
        {R"({"model":3})", "'model' must be an object"},
        {R"({"model":{"itl_ms":-1}})", "'itl_ms' must be a number of milliseconds"},
        {R"({"model":{"ttft_ms":"1"}})", "'ttft_ms'"},
        {R"({"model":{"itl_ms":1e300}})", "'itl_ms'"},
        {R"({"model":{"reply_tokens":-1}})", "'reply_tokens' must be a number of tokens"},
        {R"({"model":{"reply_tokens":1.5}})", "'reply_tokens'"},
        {R"({"model":{"hang_after":4294967296}})", "'hang_after'"},
        {R"({"model":{"refuse":1}})", "'refuse' must be true or false"},
        {R"({"model":{"stamp":"wall"}})", "'stamp' must be \"monotonic\""}}) {
    std::string error;
    EXPECT_FALSE(ParseOptions(config, &error)) << config;
    EXPECT_THAT(error, HasSubstr(expected));
  }
}

TEST(PromptTest, LastUserMessage) {
  std::string error;
  const auto prompt = Chat(R"([{"role":"system","content":"be brief"},{"role":"user","content":"first"},
      {"role":"user","content":"  second\n message "},{"role":"assistant","content":"no"}])",
                           &error);
  ASSERT_TRUE(prompt) << error;
  EXPECT_THAT(prompt->words, ElementsAre("second", "message"));
  EXPECT_EQ(prompt->tokens, 6u);
}

TEST(PromptTest, ContentInParts) {
  std::string error;
  const auto prompt = Chat(
      R"([{"role":"user","content":[{"type":"text","text":"a b"},{"type":"image_url"},{"type":"text","text":" c"}]}])",
      &error);
  ASSERT_TRUE(prompt) << error;
  EXPECT_THAT(prompt->words, ElementsAre("a", "b", "c"));
}

TEST(PromptTest, GarbageIsRefused) {
  for (const char* messages : {"", "{", "{}", "[1]", "7"}) {
    std::string error;
    EXPECT_FALSE(Chat(messages, &error)) << messages;
    EXPECT_FALSE(error.empty());
  }
}

TEST(PromptTest, FormsThatItDoesNotKnowAreRefused) {
  for (const char* field : {"guided_choice", "structured_outputs"}) {
    cyllm_request request{};
    request.kind = CYLLM_KIND_TEXT;
    request.prompt = sdk::Str("x");
    const std::string extra = std::string("{\"") + field + "\":[7]}";
    request.extra_json = sdk::Str(extra);
    std::string error;
    EXPECT_FALSE(ReadPrompt(request, &error));
    EXPECT_THAT(error, HasSubstr(field));
    request.extra_json = sdk::Str(R"({"user":"u","guided_choice":null,"grammar":""})");
    EXPECT_TRUE(ReadPrompt(request, &error));
  }
}

TEST(PromptTest, TextAndTokens) {
  std::string error;
  cyllm_request request{};
  request.kind = CYLLM_KIND_TEXT;
  request.prompt = sdk::Str("x y");
  EXPECT_THAT(ReadPrompt(request, &error)->words, ElementsAre("x", "y"));
  const int32_t tokens[] = {5, 6};
  request.kind = CYLLM_KIND_TOKENS;
  request.prompt_tokens = tokens;
  request.n_prompt_tokens = 2;
  EXPECT_THAT(ReadPrompt(request, &error)->words, ElementsAre("t5", "t6"));
  request.kind = 77;
  EXPECT_FALSE(ReadPrompt(request, &error));
}

constexpr const char* kTools = R"([{"type":"function","function":{"name":"clock"}},
    {"type":"function","function":{"name":"find","parameters":{"type":"object","properties":{
      "q":{"type":"string","minLength":2},"n":{"type":"integer","minimum":3},"k":{"enum":["a","b"]},
      "l":{"type":"array","items":{"type":"boolean"},"minItems":2},"free":{"type":"string"}},
      "required":["q","n","k","l"]}}}])";

std::string Joined(const Script& script) {
  std::string out = script.tool;
  for (const std::string& piece : script.pieces) out += piece;
  return out;
}

TEST(ScriptTest, CallsWhatIsAskedFor) {
  cyllm_request request{};
  request.tools_json = sdk::Str(kTools);
  std::string error;
  const auto asked = [&](const char* choice, const char* text) {
    request.tool_choice_json = sdk::Str(choice);
    const auto script = ReadScript(request, text, &error);
    return script ? Joined(*script) : "-";
  };
  const std::string find = R"(find{"q":"xx","n":3,"k":"a","l":[false,false]})";
  EXPECT_EQ(asked("", "hello"), "-");
  EXPECT_EQ(asked("", "please find it"), find);
  EXPECT_EQ(asked(R"("none")", "please find it"), "-");
  EXPECT_EQ(asked(R"("required")", "hello"), "clock{}");
  EXPECT_EQ(asked("", R"(clock? find {"q": "}"} now)"), R"(find{"q": "}"})");
  EXPECT_EQ(asked(R"("none")", R"(find {"q": 1})"), "-");
  EXPECT_EQ(asked("", R"(find {"q": )"), find);
  EXPECT_EQ(asked(R"({"type":"function","function":{"name":"find"}})", "hello"), find);
  EXPECT_EQ(error, "");
  EXPECT_EQ(asked(R"({"type":"function","function":{"name":"other"}})", "hello"), "-");
  EXPECT_THAT(error, HasSubstr("tool_choice"));
}

TEST(ScriptTest, ADictatedCallIsAnsweredWithItsResult) {
  cyllm_request request{};
  request.kind = CYLLM_KIND_CHAT;
  request.tools_json = sdk::Str(kTools);
  std::string error;
  std::string history = R"([{"role":"user","content":"find {\"q\": 1}"})";
  const auto read = [&](const std::string& messages) {
    request.messages_json = sdk::Str(messages);
    return ReadPrompt(request, &error);
  };
  EXPECT_EQ(Joined(read(history + "]")->script), R"(find{"q": 1})");
  history += R"(,{"role":"assistant","content":""},{"role":"tool","content":"two pears"})";
  EXPECT_TRUE(read(history + "]")->script.pieces.empty());
  EXPECT_THAT(read(history + "]")->words, ElementsAre("two", "pears"));
  EXPECT_FALSE(read(history + R"(,{"role":"user","content":"find it"}])")->script.pieces.empty());
}

TEST(ScriptTest, AnswersInTheFormat) {
  cyllm_request request{};
  std::string error;
  const auto answer = [&](const char* format) {
    request.response_format_json = sdk::Str(format);
    const auto script = ReadScript(request, "", &error);
    return script ? Joined(*script) : "-";
  };
  EXPECT_EQ(answer(R"({"type":"text"})"), "-");
  EXPECT_EQ(answer(R"({"type":"json_object"})"), "{}");
  EXPECT_EQ(answer(R"({"type":"json_schema","json_schema":{"schema":{"anyOf":[{"const":[1]},{}]}}})"), "[1]");
  EXPECT_EQ(error, "");
  EXPECT_EQ(answer(R"({"type":"wizard"})"), "-");
  EXPECT_THAT(error, HasSubstr("response_format"));
}

TEST(ValuesTest, TextsThatShareWordsAreNear) {
  const auto dot = [](const std::vector<float>& a, const std::vector<float>& b) {
    float sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  const auto a = VectorOf("the cat sleeps", 0), b = VectorOf("the cat eats", 0),
             c = VectorOf("rates rose", 0);
  EXPECT_NEAR(dot(a, a), 1, 1e-5);
  EXPECT_GT(dot(a, b), dot(a, c));
  EXPECT_EQ(VectorOf("x", 8).size(), 8u);
  EXPECT_NEAR(dot(VectorOf("", 4), VectorOf("", 4)), 1, 1e-5);
  EXPECT_GT(ScoreOf("cat", "a cat"), ScoreOf("cat", "a dog"));
  std::string text;
  const auto tokens = TokensOf("h\u00e9");
  EXPECT_TRUE(TextOf(tokens.data(), tokens.size(), &text));
  EXPECT_EQ(text, "h\u00e9");
  const int32_t strange[] = {300};
  EXPECT_FALSE(TextOf(strange, 1, &text));
}

}  // namespace
}  // namespace cyllm::echo
