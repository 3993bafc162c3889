#include <gtest/gtest.h>

#include "sdk/engine.hpp"
#include "sdk/stop_matcher.hpp"

namespace cyllm::sdk {
namespace {

TEST(EngineHppTest, TextsAreCutAtACodePoint) {
  char field[6];
  Copy("abcdefgh", field);
  EXPECT_STREQ(field, "abcde");
  Copy("abcd\xC3\xA9", field);  // é would not fit whole
  EXPECT_STREQ(field, "abcd");
  Copy("ab\xE4\xB8\xAD", field);
  EXPECT_STREQ(field, "ab\xE4\xB8\xAD");
  Copy("", field);
  EXPECT_STREQ(field, "");
}

TEST(EngineHppTest, ErrorsOfAnySize) {
  cyllm_error error;
  std::memset(&error, 0x5A, sizeof error);
  error.size = offsetof(cyllm_error, param);
  EXPECT_EQ(Fail(&error, CYLLM_NOT_FOUND, "gone", "missing", "model", true), CYLLM_NOT_FOUND);
  EXPECT_EQ(error.size, offsetof(cyllm_error, param));
  EXPECT_EQ(error.code, CYLLM_NOT_FOUND);
  EXPECT_STREQ(error.reason, "missing");
  EXPECT_EQ(error.param[0], 0x5A);  // past what the host knows
  EXPECT_EQ(Fail(nullptr, CYLLM_INTERNAL, "x"), CYLLM_INTERNAL);
}

TEST(EngineHppTest, WhatAnOlderWriterLeftOutIsZero) {
  cyllm_stats in;
  std::memset(&in, 0x5A, sizeof in);
  in.size = offsetof(cyllm_stats, kv_cells_used);
  const cyllm_stats out = Read(&in);
  EXPECT_EQ(out.running, 0x5A5A5A5Au);
  EXPECT_EQ(out.kv_cells_used, 0u);
  EXPECT_EQ(Read<cyllm_stats>(nullptr).running, 0u);
}

TEST(EngineHppTest, Utf8) {
  for (const char* text : {"", "a", "\xC3\xA9", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80", "\xF4\x8F\xBF\xBF"})
    EXPECT_TRUE(IsUtf8(text)) << text;
  for (const char* text :
       {"\x80", "\xC3", "\xC3(", "\xC0\xAF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xFF"})
    EXPECT_FALSE(IsUtf8(text)) << text;
}

// Everything that comes out, piece by piece, joined with '|'.
std::string Feed(StopMatcher& matcher, std::initializer_list<const char*> pieces) {
  std::string out;
  for (const char* piece : pieces) out += matcher.Push(piece) + "|";
  return out + matcher.Flush();
}

TEST(StopMatcherTest, AcrossPieces) {
  StopMatcher m({"END"});
  EXPECT_EQ(Feed(m, {"a E", "N", "D b"}), "a |||");
  EXPECT_EQ(m.matched(), "END");
}

TEST(StopMatcherTest, HeldBackIsGivenOutWhenItCannotMatch) {
  StopMatcher m({"END"});
  EXPECT_EQ(Feed(m, {"E", "NE", "X", "E"}), "|EN|EX||E");
  EXPECT_FALSE(m.matched());
}

TEST(StopMatcherTest, WithoutStopsNothingIsHeldBack) {
  StopMatcher m({});
  EXPECT_EQ(Feed(m, {"a", "b"}), "a|b|");
  StopMatcher empty({""});
  EXPECT_EQ(Feed(empty, {"a", "b"}), "a|b|");
}

TEST(StopMatcherTest, TheMatchThatEndsFirstWins) {
  StopMatcher first({"long stop", "g"});
  EXPECT_EQ(Feed(first, {"a long stop"}), "a lon|");
  EXPECT_EQ(first.matched(), "g");
  StopMatcher longest({"op", "stop"});
  EXPECT_EQ(Feed(longest, {"a stop b"}), "a |");
  EXPECT_EQ(longest.matched(), "stop");
}

TEST(StopMatcherTest, RepeatedPrefixes) {
  StopMatcher m({"aab"});
  EXPECT_EQ(Feed(m, {"a", "a", "a", "b"}), "||a||");
  EXPECT_EQ(m.matched(), "aab");
}

}  // namespace
}  // namespace cyllm::sdk
