#include "llama_cpp/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "llama_cpp/constraint.h"
#include "llama_cpp/fake_model.h"
#include "llama_cpp/grammar_matcher.h"
#include "llama_cpp/token_index.h"

namespace cyllm::llama {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<const Grammar> Good(std::string_view gbnf) {
  std::string error;
  auto grammar = Grammar::Compile(gbnf, &error);
  EXPECT_TRUE(grammar) << error << "\n" << gbnf;
  return grammar;
}

std::string Bad(std::string_view gbnf) {
  std::string error;
  EXPECT_FALSE(Grammar::Compile(gbnf, &error)) << gbnf;
  return error;
}

// "no", "more" (may go on), "whole" (must end) or "either".
std::string Says(std::string_view gbnf, std::string_view text) {
  const auto grammar = Good(gbnf);
  if (!grammar) return "bad";
  GrammarMatcher matcher(grammar);
  const auto state = matcher.Next(matcher.start(), text);
  if (state == GrammarMatcher::kDead) return "no";
  if (!matcher.CanEnd(state)) return "more";
  return matcher.MustEnd(state) ? "whole" : "either";
}

TEST(GrammarTest, LiteralsChoicesAndRepetitions) {
  const char* g = R"(root ::= "a" ("b" | "c")* "d"? [0-9]{2,3} # comment
    )";
  EXPECT_EQ(Says(g, "a"), "more");
  EXPECT_EQ(Says(g, "abcb"), "more");
  EXPECT_EQ(Says(g, "ad1"), "more");
  EXPECT_EQ(Says(g, "ad12"), "either");
  EXPECT_EQ(Says(g, "acd123"), "whole");
  EXPECT_EQ(Says(g, "acd1234"), "no");
  EXPECT_EQ(Says(g, "add"), "no");
  EXPECT_EQ(Says(R"(root ::= "x"{3})", "xxx"), "whole");
  EXPECT_EQ(Says(R"(root ::= "x"{2,})", "xxxxx"), "either");
  EXPECT_EQ(Says(R"(root ::= ("x"?)+ "y")", "y"), "whole");
  EXPECT_EQ(Says(R"(root ::= (("x"*)*)* "y")", "xxy"), "whole");
  EXPECT_EQ(Says("root ::= (\n  \"a\" |\n  other\n)\nother ::= \"\\x41\\u00e4\\n\"", "A\xC3\xA4\n"), "whole");
}

TEST(GrammarTest, TextsOfMoreThanWhiteSpace) {
  const auto grammar = Good(R"(root ::= ("ab"? [ \n]?)+)");
  GrammarMatcher all(grammar);
  EXPECT_TRUE(all.CanEnd(all.start()));
  GrammarMatcher some(grammar, GrammarMatcher::Texts::kNotBlank);
  EXPECT_FALSE(some.CanEnd(some.start()));
  EXPECT_FALSE(some.CanEnd(some.Next(some.start(), "\n ")));
  EXPECT_TRUE(some.CanEnd(some.Next(some.start(), " ab")));
  EXPECT_TRUE(some.CanEnd(some.Next(some.start(), "ab\nab ")));
  GrammarMatcher first(grammar, GrammarMatcher::Texts::kFirst);
  EXPECT_FALSE(first.CanEnd(first.Next(first.start(), " ")));
  const auto one = first.Next(first.start(), " ab");
  EXPECT_TRUE(first.CanEnd(one) && first.MustEnd(one));
  EXPECT_EQ(first.Next(one, " "), GrammarMatcher::kDead);
  EXPECT_EQ(first.Next(first.start(), "aba"), GrammarMatcher::kDead);
}

TEST(GrammarTest, RulesNest) {
  const char* g = R"g(root ::= "(" root ")" | "[" root "]" | "x")g";
  EXPECT_EQ(Says(g, "([x])"), "whole");
  EXPECT_EQ(Says(g, "([x)"), "no");
  EXPECT_EQ(Says(g, std::string(500, '(') + "x" + std::string(499, ')')), "more");
  EXPECT_EQ(Says(g, std::string(500, '(') + "x" + std::string(500, ')')), "whole");
  EXPECT_EQ(Says(R"(root ::= "a" root | "b")", std::string(5000, 'a') + "b"), "whole");
}

TEST(GrammarTest, CodePointsMayBeCut) {
  const char* g = "root ::= [^\"a\\x00-\\x1F]+ [\xC3\xA4-\xE4\xB8\xAD\\U0001F600]";
  EXPECT_EQ(Says(g, "z\xC3"), "more");
  EXPECT_EQ(Says(g, "z\xC3\xA4"), "either");
  EXPECT_EQ(Says(g, "\xF0\x9F\x98"), "more");
  EXPECT_EQ(Says(g, "\xF0\x9F\x98\x80\xF0\x9F\x98\x80"), "either");
  EXPECT_EQ(Says(g, "a"), "no");
  EXPECT_EQ(Says(g, "\x80"), "no");
  EXPECT_EQ(Says(g, "\xC0\x80"), "no");
  EXPECT_EQ(Says(g, "\xED\xA0"), "no");  // a surrogate
  EXPECT_EQ(Says("root ::= .", "\xF4\x8F\xBF\xBF"), "whole");
  EXPECT_EQ(Says("root ::= .", "\xF4\x90"), "no");
}

// Every code point, against a class of all of them but a few.
TEST(GrammarTest, ClassesAreExact) {
  const auto grammar = Good("root ::= [\\u0041-\\u07fe\\u0801-\\ud7ff\\U0000E001-\\U0010FFFE]");
  GrammarMatcher matcher(grammar);
  for (uint32_t c = 0x80; c <= 0x10FFFF; c += c < 0x900 || c > 0x10FF00 ? 1 : 37) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    if (c < 0x800) {
      text = {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 63))};
    } else if (c < 0x10000) {
      text = {static_cast<char>(0xE0 | (c >> 12)), static_cast<char>(0x80 | ((c >> 6) & 63)),
              static_cast<char>(0x80 | (c & 63))};
    } else {
      text = {static_cast<char>(0xF0 | (c >> 18)), static_cast<char>(0x80 | ((c >> 12) & 63)),
              static_cast<char>(0x80 | ((c >> 6) & 63)), static_cast<char>(0x80 | (c & 63))};
    }
    const bool in = (c <= 0x7FE) || (c >= 0x801 && c <= 0xD7FF) || (c >= 0xE001 && c <= 0x10FFFE);
    ASSERT_EQ(matcher.Next(matcher.start(), text) != GrammarMatcher::kDead, in) << c;
  }
}

TEST(GrammarTest, MistakesAreNamed) {
  EXPECT_THAT(Bad(""), HasSubstr("no rule 'root'"));
  EXPECT_THAT(Bad("root ::= other"), HasSubstr("'other' is not defined"));
  EXPECT_THAT(Bad("root := \"a\""), HasSubstr("'::='"));
  EXPECT_THAT(Bad("root ::= \"a"), HasSubstr("line 1"));
  EXPECT_THAT(Bad("root ::= [a"), HasSubstr("class"));
  EXPECT_THAT(Bad("root ::= (\"a\""), HasSubstr("')'"));
  EXPECT_THAT(Bad("root ::= \"a\"{2"), HasSubstr("'}'"));
  EXPECT_THAT(Bad("root ::= \"a\"{3,2}"), HasSubstr("repetitions"));
  EXPECT_THAT(Bad("root ::= \"\\q\""), HasSubstr("escape"));
  EXPECT_THAT(Bad("root ::= <[5]>"), HasSubstr("token"));
}

TEST(GrammarTest, WhatWouldNeverEndIsRefused) {
  EXPECT_THAT(Bad("root ::= root \"a\" | \"b\""), HasSubstr("left recursion"));
  EXPECT_THAT(Bad("root ::= a\na ::= b? a \"x\" | \"y\"\nb ::= \"b\""), HasSubstr("left recursion"));
  EXPECT_THAT(Bad("root ::= root"), HasSubstr("complete"));
  EXPECT_THAT(Bad("root ::= \"{\" root \"}\""), HasSubstr("complete"));
  // A branch on which nothing ends is never taken.
  EXPECT_EQ(Says("root ::= \"a\" | \"b\" b\nb ::= \"b\" b", "b"), "no");
  EXPECT_EQ(Says("root ::= \"a\" | \"b\" b\nb ::= \"b\" b", "a"), "whole");
}

TEST(GrammarTest, HostileOnesAreBounded) {
  EXPECT_THAT(Bad("root ::= (((\"a\"{1000}){1000}){1000}){1000}"), HasSubstr("too large"));
  EXPECT_THAT(Bad("root ::= (((\"\"{0,9999999}){1000000}){1000}){1000}"), HasSubstr("too large"));
  EXPECT_THAT(Bad("root ::= " + std::string(100'000, '(')), HasSubstr("parentheses"));
  EXPECT_THAT(Bad("root ::= \"a\"" + std::string(1000, '*')), HasSubstr("repetitions"));
  std::string chain = "root ::= r0\n";
  for (int i = 0; i < 50'000; ++i)
    chain += "r" + std::to_string(i) + " ::= r" + std::to_string(i + 1) + "?\n";
  EXPECT_EQ(Says(chain + "r50000 ::= \"a\"", "a"), "whole");
  // Twice as many places with each letter: given up, not computed.
  const auto twins = Good("root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"\"");
  GrammarMatcher matcher(twins);
  EXPECT_EQ(matcher.Next(matcher.start(), std::string(100, 'a')), GrammarMatcher::kDead);
  EXPECT_TRUE(matcher.exhausted());
}

TEST(GrammarTest, AnEnumOf20000) {
  std::string g = "root ::= \"\\\"\" (\"value0\"";
  for (int i = 1; i < 20'000; ++i) g += " | \"value" + std::to_string(i) + "\"";
  g += ") \"\\\"\"";
  EXPECT_EQ(Says(g, "\"value19999\""), "whole");
  EXPECT_EQ(Says(g, "\"value20000"), "no");
}

TEST(GrammarMatcherTest, ForgettingKeepsThePlace) {
  const auto grammar = Good(R"g(root ::= "[" root "," [0-9] "]" | [a-z])g");
  GrammarMatcher matcher(grammar);
  auto state = matcher.start();
  const auto say = [&](std::string_view text) {
    for (const char c : text)
      if (state != GrammarMatcher::kDead)
        state = matcher.Forget(matcher.Next(state, static_cast<uint8_t>(c)));
  };
  constexpr int kDepth = 5000;  // each depth is a state of its own, or several
  for (int i = 0; i < kDepth; ++i) say("[");
  say("z");
  for (int i = 0; i < kDepth; ++i) {
    ASSERT_NE(state, GrammarMatcher::kDead) << i;
    ASSERT_FALSE(matcher.CanEnd(state)) << i;
    say(",7]");
  }
  ASSERT_NE(state, GrammarMatcher::kDead);
  EXPECT_TRUE(matcher.MustEnd(state));
}

class ConstraintTest : public ::testing::Test {
 protected:
  // Which bytes are let through now, and `$` for the end.
  std::string Allowed(Constraint& constraint) {
    std::vector<float> logits(testing::kVocabulary, 1);
    constraint.Mask(logits);
    std::string out;
    for (Token t = 0; t < static_cast<Token>(testing::kVocabulary); ++t) {
      const bool masked = logits[static_cast<size_t>(t)] < 0;
      EXPECT_EQ(constraint.Allows(t), !masked) << t;
      if (!masked && t < 128) out += static_cast<char>(t);
      if (!masked && t == testing::kEnd) out += '$';
      if (!masked && t > testing::kEnd) out += "<" + vocabulary_.Piece(t) + ">";
    }
    return out;
  }
  static void Say(Constraint& constraint, std::string_view text) {
    for (const char c : text) constraint.Accept(static_cast<uint8_t>(c));
  }
  testing::FakeVocabulary vocabulary_;
};

TEST_F(ConstraintTest, MasksWhatTheGrammarRefuses) {
  vocabulary_.pieces = {{257, "ab"}, {258, "abd"}, {259, "b"}};
  const TokenIndex index(vocabulary_);
  ConstraintSpec spec;
  spec.grammar = Good(R"(root ::= "ab" "c"? "!")");
  Constraint constraint(spec, index, vocabulary_);
  EXPECT_EQ(Allowed(constraint), "a<ab>");
  constraint.Accept('a');
  EXPECT_EQ(Allowed(constraint), "b<b>");
  constraint.Accept(259);
  EXPECT_EQ(Allowed(constraint), "!c");
  EXPECT_FALSE(constraint.complete());
  constraint.Accept('!');
  EXPECT_EQ(Allowed(constraint), "$");
  EXPECT_TRUE(constraint.complete());
}

TEST_F(ConstraintTest, LazyUntilItsWordComes) {
  const TokenIndex index(vocabulary_);
  ConstraintSpec spec;
  spec.grammar = Good(R"(root ::= "<go>" [0-9] "</go>")");
  spec.lazy = true;
  spec.trigger_words = {"<go>"};
  Constraint constraint(spec, index, vocabulary_);
  EXPECT_EQ(Allowed(constraint).size(), 135u);
  Say(constraint, "words <go and <go");
  EXPECT_TRUE(constraint.Allows(testing::kEnd));
  Say(constraint, ">");
  EXPECT_EQ(Allowed(constraint), "0123456789");
  Say(constraint, "7</go>");
  EXPECT_TRUE(constraint.complete());
}

TEST_F(ConstraintTest, PatternsBeginWithTheirGroup) {
  const TokenIndex index(vocabulary_);
  ConstraintSpec spec;
  spec.grammar = Good(R"(root ::= " to" [a-c]+)");
  spec.lazy = true;
  spec.trigger_patterns.emplace_back("start( to)");
  Constraint constraint(spec, index, vocabulary_);
  Say(constraint, " to start to");
  EXPECT_EQ(Allowed(constraint), "abc");
}

TEST_F(ConstraintTest, ThoughtsAreFreeAndTheAnswerIsNot) {
  const TokenIndex index(vocabulary_);
  ConstraintSpec spec;
  spec.grammar = Good(R"(root ::= "{" "}")");
  spec.think_start = "<think>";
  spec.think_ends = {"</think>"};
  {
    Constraint constraint(spec, index, vocabulary_);
    EXPECT_EQ(Allowed(constraint), "\t\n\r <{");
    Say(constraint, "\n<think>");
    EXPECT_EQ(Allowed(constraint).size(), 134u);  // all but the end
    Say(constraint, "hm</think>\n\n");
    EXPECT_TRUE(constraint.Allows('{'));
    EXPECT_FALSE(constraint.Allows('x'));
    Say(constraint, "{}");
    EXPECT_TRUE(constraint.complete());
  }
  Constraint at_once(spec, index, vocabulary_);
  Say(at_once, "{");
  EXPECT_EQ(Allowed(at_once), "}");
  spec.thinking = true;
  Constraint thinking(spec, index, vocabulary_);
  Say(thinking, "</think>{}");
  EXPECT_TRUE(thinking.complete());
}

TEST_F(ConstraintTest, ThePromptMayHoldTheBeginning) {
  const TokenIndex index(vocabulary_);
  ConstraintSpec spec;
  spec.grammar = Good(R"(root ::= "ab" "cd")");
  spec.prefix = "abc";
  Constraint constraint(spec, index, vocabulary_);
  EXPECT_EQ(Allowed(constraint), "d");
}

TEST_F(ConstraintTest, SpecialTokensCountByTheirText) {
  const TokenIndex index(vocabulary_);
  ConstraintSpec spec;
  spec.grammar = Good(R"(root ::= "<call>" "x")");
  spec.special = {{257, "<call>"}};
  Constraint constraint(spec, index, vocabulary_);
  EXPECT_EQ(Allowed(constraint), "<<>");
  constraint.Accept(257);
  EXPECT_EQ(Allowed(constraint), "x");
}

}  // namespace
}  // namespace cyllm::llama
