// What the engine reads: its options, prompts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "echo/options.h"
#include "echo/prompt.h"
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
  request.kind = CYLLM_KIND_EMBED;
  EXPECT_FALSE(ReadPrompt(request, &error));
}

}  // namespace
}  // namespace cyllm::echo
