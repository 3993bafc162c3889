#include "llama_cpp/output.h"

#include <gtest/gtest.h>

#include "llama_cpp/fake_model.h"

namespace cyllm::llama {
namespace {

class OutputTest : public ::testing::Test {
 protected:
  // Text and number of tokens of the next delta; "-" for none.
  static std::string Next(Output& output) {
    const auto delta = output.Take();
    return delta ? delta->text + "/" + std::to_string(delta->tokens.size()) : "-";
  }
  static void Push(Output& output, std::string_view text, bool match = true) {
    for (const char c : text) output.Push({static_cast<uint8_t>(c), 0, {}}, match);
  }
  testing::FakeVocabulary vocabulary_;
};

TEST_F(OutputTest, TokensWaitForTheirText) {
  Output output(vocabulary_, {}, false, "");
  Push(output, "\xF0\x9F\x98");
  EXPECT_EQ(Next(output), "-");
  Push(output, "\x80");
  EXPECT_EQ(Next(output), "\xF0\x9F\x98\x80/4");
  EXPECT_EQ(output.end().tokens, 4u);
  EXPECT_EQ(output.end().text_bytes, 4u);
}

TEST_F(OutputTest, StopStringAcrossTokensIsNeverPartOfTheText) {
  Output output(vocabulary_, {"STOP"}, false, "");
  Push(output, "aST");
  EXPECT_EQ(Next(output), "a/3");
  Push(output, "x");
  EXPECT_EQ(Next(output), "STx/1");
  Push(output, "bSTO");
  EXPECT_EQ(Next(output), "b/4");
  Push(output, "P");
  EXPECT_EQ(output.stop_match(), "STOP");
  output.Finish();
  EXPECT_EQ(Next(output), "/1");
  EXPECT_EQ(Next(output), "-");
}

TEST_F(OutputTest, HeldBackTextComesAtTheEnd) {
  Output output(vocabulary_, {"STOP"}, false, "");
  Push(output, "ST\xE6");
  EXPECT_EQ(Next(output), "-");
  output.Finish();
  EXPECT_EQ(Next(output), "ST\xEF\xBF\xBD/3");
  EXPECT_FALSE(output.stop_match());
}

TEST_F(OutputTest, NoMatchBeforeMinTokens) {
  Output output(vocabulary_, {"ab"}, false, "");
  Push(output, "a");
  Push(output, "b", false);
  EXPECT_EQ(Next(output), "ab/2");
  Push(output, "ab");
  EXPECT_EQ(output.stop_match(), "ab");
}

TEST_F(OutputTest, EchoComesFirstAndIsNotMatched) {
  Output output(vocabulary_, {"pro"}, false, "prompt");
  EXPECT_EQ(Next(output), "prompt/0");
  EXPECT_EQ(output.end().text_bytes, 6u);
}

TEST_F(OutputTest, ScoresTravelWithTheirTokens) {
  Output output(vocabulary_, {"xy"}, true, "");
  output.Push({'x', -0.5f, {{'x', -0.5f}, {'q', -1.0f}}}, true);
  output.Push({'z', -0.25f, {}}, true);
  const auto delta = output.Take();
  ASSERT_TRUE(delta);
  ASSERT_EQ(delta->scores.size(), 2u);
  EXPECT_EQ(delta->scores[0].bytes, "x");
  EXPECT_EQ(delta->scores[0].top_bytes, (std::vector<std::string>{"x", "q"}));
  EXPECT_EQ(delta->scores[1].sample.logprob, -0.25f);
}

}  // namespace
}  // namespace cyllm::llama
