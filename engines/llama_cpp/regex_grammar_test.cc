#include "llama_cpp/regex_grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "llama_cpp/grammar_matcher.h"

namespace cyllm::llama {
namespace {

using ::testing::HasSubstr;

bool Matches(std::string_view regex, std::string_view text) {
  std::string why;
  const std::optional<std::string> gbnf = RegexGrammar(regex, &why);
  EXPECT_TRUE(gbnf) << regex << ": " << why;
  if (!gbnf) return false;
  const auto grammar = Grammar::Compile(*gbnf, &why);
  EXPECT_TRUE(grammar) << regex << ": " << why << "\n" << *gbnf;
  if (!grammar) return false;
  GrammarMatcher matcher(grammar);
  const auto state = matcher.Next(matcher.start(), text);
  return state != GrammarMatcher::kDead && matcher.CanEnd(state);
}

void Expect(std::string_view regex, std::initializer_list<std::string_view> all,
            std::initializer_list<std::string_view> none) {
  for (const std::string_view text : all) EXPECT_TRUE(Matches(regex, text)) << regex << " " << text;
  for (const std::string_view text : none) EXPECT_FALSE(Matches(regex, text)) << regex << " " << text;
}

std::string Wrong(std::string_view regex) {
  std::string why;
  EXPECT_FALSE(RegexGrammar(regex, &why)) << regex;
  return why;
}

TEST(RegexGrammarTest, TheWholeTextIsMatched) {
  Expect("[0-9]{4}", {"2026"}, {"202", "20267", "a2026", "2026 ", ""});
  Expect("^yes|no$", {"yes", "no"}, {"yes!", "yesno", ""});
  Expect("^(?:yes|no)$", {"yes", "no"}, {"^yes"});
  Expect("a|", {"a", ""}, {"aa"});
  Expect(R"("q"\\\n)", {"\"q\"\\\n"}, {"\"q\"\\n"});
}

TEST(RegexGrammarTest, Classes) {
  Expect(R"(\d+\.\d\d)", {"3.14", "12.00"}, {"3x14", ".14", "3.1"});
  Expect(R"(\w\W\s\S\D)", {"_ \t.x", "Z-\fa-"}, {"- \t.x", "ab\t.x", "a aaa", "a-  a", "a- a1"});
  Expect(R"([]a^-])", {"]", "a", "^", "-"}, {"b", "\\"});
  Expect(R"([^\d\s"])", {"x", "\xC3\xA4", "]"}, {"1", " ", "\"", "xx"});
  Expect(R"([\x41-\u0043\]\-])", {"A", "B", "C", "]", "-"}, {"D", "\\"});
  Expect(R"([^\D5])", {"4", "6"}, {"5", "a"});
  Expect("[\xC3\xA4-\xC3\xB6]\xE2\x82\xAC.", {"\xC3\xA5\xE2\x82\xAC\xF0\x9F\x98\x80"},
         {"\xC3\xA5\xE2\x82\xAC\n", "a\xE2\x82\xAC.", "\xC3\xA5\xE2\x82\xAC"});
}

TEST(RegexGrammarTest, GroupsAndRepetitions) {
  Expect("(ab)+c?", {"ab", "ababc"}, {"", "abcc", "aab"});
  Expect("a*?b{2,}?c{,2}d{0,1}", {"bb", "aabbbccd"}, {"b", "bbccc", "bbdd"});
  Expect("(?P<year>19|20)(?<rest>[0-9]{2})", {"1984", "2026"}, {"1884", "19"});
  Expect("((a|b)c){2}", {"acbc", "bcbc"}, {"ac", "acbcac"});
  Expect(R"({"n": x{2}, "o": {}})", {R"({"n": xx, "o": {}})"}, {R"({"n": xx, "o": })"});
  Expect("x{a}{1,b}", {"x{a}{1,b}"}, {"x"});
}

TEST(RegexGrammarTest, WhatItCannotSayIsRefusedWithItsPlace) {
  EXPECT_THAT(Wrong(R"(ab\bc)"), HasSubstr("an escape that is not known (at character 3)"));
  for (const char* escape : {R"((a)\1)", R"(\p{L})", R"(\Aa)", R"(\x4)", R"(\x4g)", "a\\", R"([\b])"})
    EXPECT_THAT(Wrong(escape), HasSubstr("escape")) << escape;
  for (const char* group : {"(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", "(?i)a", "(?>a)", "(?#a)"})
    EXPECT_THAT(Wrong(group), HasSubstr("of this kind")) << group;
  for (const char* repeated : {"*a", "a**", "(|+)", "a{2}{3}", "{2}", "a?{1}"})
    EXPECT_THAT(Wrong(repeated), HasSubstr("nothing to repeat")) << repeated;
  for (const char* possessive : {"a++", "a*+", "a{2}+"})
    EXPECT_THAT(Wrong(possessive), HasSubstr("give nothing back")) << possessive;
  for (const char* anchor : {"a^", "(^a)", "a$b", "(a$)"})
    EXPECT_THAT(Wrong(anchor), HasSubstr("ends of the whole")) << anchor;
  EXPECT_THAT(Wrong("(a"), HasSubstr("')' is missing"));
  EXPECT_THAT(Wrong("a)"), HasSubstr("')' too much"));
  EXPECT_THAT(Wrong("[a"), HasSubstr("']' is missing"));
  EXPECT_THAT(Wrong("[]"), HasSubstr("']' is missing"));
  EXPECT_THAT(Wrong("[[:alpha:]]"), HasSubstr("with a name"));
  EXPECT_THAT(Wrong("[z-a]"), HasSubstr("backwards"));
  EXPECT_THAT(Wrong(R"([a-\d])"), HasSubstr("must end with a character"));
  EXPECT_THAT(Wrong(R"(\ud800)"), HasSubstr("no character"));
  EXPECT_THAT(Wrong("a{3,2}"), HasSubstr("fewer"));
}

TEST(RegexGrammarTest, ItsSizeIsBounded) {
  EXPECT_THAT(Wrong(""), HasSubstr("from 1 to"));
  EXPECT_THAT(Wrong(std::string(5000, 'a')), HasSubstr("from 1 to"));
  EXPECT_THAT(Wrong("\xFF"), HasSubstr("UTF-8"));
  EXPECT_THAT(Wrong("a{99999999999}"), HasSubstr("repetitions"));
  EXPECT_THAT(Wrong(std::string(100, '(') + std::string(100, ')')), HasSubstr("too many groups"));
  std::string why;
  const auto huge = RegexGrammar("((a{10000}){10000}){10000}", &why);
  ASSERT_TRUE(huge) << why;
  EXPECT_FALSE(Grammar::Compile(*huge, &why));
}

}  // namespace
}  // namespace cyllm::llama
