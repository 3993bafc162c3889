#include "llama_cpp/response_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "llama_cpp/grammar_matcher.h"
#include "llama_cpp/literal_grammar.h"

namespace cyllm::llama {
namespace {

using ::testing::HasSubstr;

bool Matches(const std::string& gbnf, std::string_view text) {
  std::string why;
  const auto grammar = Grammar::Compile(gbnf, &why);
  EXPECT_TRUE(grammar) << why << "\n" << gbnf;
  if (!grammar) return false;
  GrammarMatcher matcher(grammar);
  const auto state = matcher.Next(matcher.start(), text);
  return state != GrammarMatcher::kDead && matcher.CanEnd(state);
}

Format Good(std::string_view response_format, std::string_view extra) {
  Format out;
  std::string why;
  EXPECT_TRUE(ReadFormat(response_format, extra, &out, &why)) << why;
  return out;
}

// "param|message"
std::string Bad(std::string_view response_format, std::string_view extra) {
  Format out;
  std::string why;
  EXPECT_FALSE(ReadFormat(response_format, extra, &out, &why)) << response_format << extra;
  return out.param + ("|" + why);
}

TEST(ResponseFormatTest, NothingIsFreeText) {
  for (const char* format : {"", R"({"type":"text"})"})
    for (const char* extra :
         {"", "{}", R"({"user":"u","guided_regex":null,"grammar":"","structured_outputs":null})",
          R"({"response_format":{"type":"text"},"guided_decoding_backend":"x"})",
          R"({"structured_outputs":{"json":null,"json_object":false}})"})
      EXPECT_EQ(Good(format, extra).gbnf, "") << extra;
}

TEST(ResponseFormatTest, EveryNameOfAFormIsHeldTo) {
  struct Case {
    const char* extra;
    const char* param;
    const char* yes;
    const char* no;
  };
  for (const Case& c : std::initializer_list<Case>{
           {R"({"guided_choice":["yes","no \"\\\n"]})", "guided_choice", "no \"\\\n", "yesno"},
           {R"({"guided_regex":"[0-9]{4}","user":"u"})", "guided_regex", "1234", "123"},
           {R"({"guided_grammar":"root ::= \"a\"+"})", "guided_grammar", "aa", "b"},
           {R"({"grammar":"root ::= \"a\"+"})", "grammar", "aa", "b"},
           {R"({"guided_json":{"enum":[7]}})", "guided_json", "7", "8"},
           {R"({"json_schema":"{\"enum\":[7]}"})", "json_schema", "7", "8"},
           {R"({"response_format":{"type":"json_object"}})", "response_format", "{}", "[]"},
           {R"({"structured_outputs":{"choice":["x"]}})", "structured_outputs", "x", "y"},
           {R"({"structured_outputs":{"regex":"x|y","choice":null}})", "structured_outputs", "y", "z"},
           {R"({"structured_outputs":{"grammar":"root ::= \"a\""}})", "structured_outputs", "a", "b"},
           {R"({"structured_outputs":{"json_object":true}})", "structured_outputs", "{}", "[]"},
           {R"({"structured_outputs":{"json":{"enum":[7]},"disable_any_whitespace":true}})",
            "structured_outputs", "7", "8"}}) {
    const Format format = Good(R"({"type":"text"})", c.extra);
    EXPECT_STREQ(format.param, c.param) << c.extra;
    EXPECT_TRUE(Matches(format.gbnf, c.yes)) << c.extra;
    EXPECT_FALSE(Matches(format.gbnf, c.no)) << c.extra;
  }
}

TEST(ResponseFormatTest, TwoAtOnceAreRefusedByName) {
  EXPECT_EQ(Bad(R"({"type":"json_object"})", R"({"guided_choice":["a"]})"),
            "guided_choice|guided_choice: cannot be used together with response_format");
  EXPECT_EQ(Bad("", R"({"guided_regex":"a","guided_choice":["a"]})"),
            "guided_choice|guided_choice: cannot be used together with guided_regex");
  EXPECT_EQ(
      Bad("", R"({"structured_outputs":{"regex":"a","choice":["a"]}})"),
      "structured_outputs|structured_outputs.choice: cannot be used together with structured_outputs.regex");
  EXPECT_EQ(Bad("", R"({"guided_json":{},"structured_outputs":{"json":{}}})"),
            "structured_outputs|structured_outputs.json: cannot be used together with guided_json");
}

TEST(ResponseFormatTest, MistakesNameTheField) {
  const std::pair<const char*, const char*> kTable[] = {
      {R"({"guided_choice":[]})", "guided_choice|guided_choice: from 1 to"},
      {R"({"guided_choice":"a"})", "guided_choice|guided_choice: a list of texts"},
      {R"({"guided_choice":["a",1]})", "guided_choice|guided_choice: a list of texts"},
      {R"({"guided_choice":["a",""]})", "guided_choice|guided_choice: each text"},
      {R"({"guided_regex":7})", "guided_regex|guided_regex: a text"},
      {R"j({"guided_regex":"(?=a)"})j", "guided_regex|guided_regex: groups of this kind"},
      {R"({"guided_grammar":""})", "guided_grammar|guided_grammar: a grammar in GBNF"},
      {R"({"grammar":1})", "grammar|grammar: a grammar in GBNF"},
      {R"({"guided_json":"{"})", "guided_json|guided_json: it is no JSON"},
      {R"({"guided_json":[]})", "guided_json|guided_json: a JSON schema"},
      {R"({"guided_json":{"type":"wizard"}})", "guided_json|guided_json: the schema cannot be held to: "},
      {R"({"structured_outputs":[]})", "structured_outputs|structured_outputs: an object"},
      {R"({"structured_outputs":{"structural_tag":"x"}})",
       "structured_outputs|structured_outputs: 'structural_tag' is not offered"},
      {R"({"structured_outputs":{"json_object":1}})",
       "structured_outputs|structured_outputs.json_object: true"},
      {R"({"response_format":{"type":"wizard"}})", "response_format|response_format: 'type' must be"},
      {R"({"response_format":7})", "response_format|response_format: an object"}};
  for (const auto& [extra, expected] : kTable) EXPECT_THAT(Bad("", extra), HasSubstr(expected));
  for (const char* format : {"{", "7", R"({"type":7})", R"({"type":"grammar"})", R"({"type":"json_schema"})"})
    EXPECT_THAT(Bad(format, ""), HasSubstr("response_format|response_format: "));
}

TEST(LiteralGrammarTest, IsBounded) {
  std::string why;
  const std::vector<std::string_view> many(10'001, "a");
  EXPECT_FALSE(LiteralGrammar(many, &why));
  EXPECT_THAT(why, HasSubstr("to 10000 texts"));
  const std::string text(4097, 'a');
  EXPECT_FALSE(LiteralGrammar(std::array{std::string_view(text)}, &why));
  EXPECT_THAT(why, HasSubstr("to 4096 bytes"));
  const auto most = LiteralGrammar(std::span(many).first(10'000), &why);
  ASSERT_TRUE(most) << why;
  EXPECT_TRUE(Matches(*most, "a"));
}

}  // namespace
}  // namespace cyllm::llama
