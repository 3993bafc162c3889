#include "llama_cpp/output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "llama_cpp/fake_model.h"
#include "llama_cpp/own_tools.h"

namespace cyllm::llama {
namespace {

class OutputTest : public ::testing::Test {
 protected:
  // Text and number of tokens of the next delta; "-" for none.
  static std::string Next(Output& output) {
    const auto delta = output.Take();
    return delta ? delta->part.text + "/" + std::to_string(delta->tokens.size()) : "-";
  }
  static void Push(Output& output, std::string_view text, bool match = true) {
    for (const char c : text) output.Push({static_cast<uint8_t>(c), 0, {}}, match);
  }
  testing::FakeVocabulary vocabulary_;
};

TEST_F(OutputTest, TokensWaitForTheirText) {
  Output output(vocabulary_, {{}, false, "", {}, nullptr});
  Push(output, "\xF0\x9F\x98");
  EXPECT_EQ(Next(output), "-");
  Push(output, "\x80");
  EXPECT_EQ(Next(output), "\xF0\x9F\x98\x80/4");
  EXPECT_EQ(output.end().tokens, 4u);
  EXPECT_EQ(output.end().text_bytes, 4u);
}

TEST_F(OutputTest, StopStringAcrossTokensIsNeverPartOfTheText) {
  Output output(vocabulary_, {{"STOP"}, false, "", {}, nullptr});
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
  Output output(vocabulary_, {{"STOP"}, false, "", {}, nullptr});
  Push(output, "ST\xE6");
  EXPECT_EQ(Next(output), "-");
  output.Finish();
  EXPECT_EQ(Next(output), "ST\xEF\xBF\xBD/3");
  EXPECT_FALSE(output.stop_match());
}

TEST_F(OutputTest, NoMatchBeforeMinTokens) {
  Output output(vocabulary_, {{"ab"}, false, "", {}, nullptr});
  Push(output, "a");
  Push(output, "b", false);
  EXPECT_EQ(Next(output), "ab/2");
  Push(output, "ab");
  EXPECT_EQ(output.stop_match(), "ab");
}

TEST_F(OutputTest, EchoComesFirstAndIsNotMatched) {
  Output output(vocabulary_, {{"pro"}, false, "prompt", {}, nullptr});
  EXPECT_EQ(Next(output), "prompt/0");
  EXPECT_EQ(output.end().text_bytes, 6u);
}

TEST_F(OutputTest, ScoresTravelWithTheirTokens) {
  Output output(vocabulary_, {{"xy"}, true, "", {}, nullptr});
  output.Push({'x', -0.5f, {{'x', -0.5f}, {'q', -1.0f}}}, true);
  output.Push({'z', -0.25f, {}}, true);
  const auto delta = output.Take();
  ASSERT_TRUE(delta);
  ASSERT_EQ(delta->scores.size(), 2u);
  EXPECT_EQ(delta->scores[0].bytes, "x");
  EXPECT_EQ(delta->scores[0].top_bytes, (std::vector<std::string>{"x", "q"}));
  EXPECT_EQ(delta->scores[1].sample.logprob, -0.25f);
}

// What all deltas say, in order: "text", "think: text", "0 name(", "0: arguments".
std::vector<std::string> All(Output& output) {
  std::vector<std::string> out;
  while (auto delta = output.Take()) {
    const MessagePart& part = delta->part;
    const std::string call = std::to_string(part.call);
    if (part.opens) out.push_back(call + " " + part.name + "(");
    if (part.text.empty()) continue;
    out.push_back(part.kind == MessagePart::Kind::kText        ? part.text
                  : part.kind == MessagePart::Kind::kReasoning ? "think: " + part.text
                                                               : call + ": " + part.text);
  }
  return out;
}

constexpr const char* kCalls =
    "I look.<tool_call>\n{\"name\": \"find\", \"arguments\": {\"q\": \"a}\\\"\"}}\n</tool_call>\n"
    "<tool_call>\n{\"name\": \"stop\", \"arguments\":{}}\n</tool_call>";

OutputOptions WithTools(std::vector<std::string> stop = {}) {
  return {std::move(stop), false, "", {}, [] { return ToolCallText(""); }};
}

TEST_F(OutputTest, CallsAreToldWhileTheyAreWritten) {
  Output output(vocabulary_, WithTools());
  std::vector<std::string> told;
  uint64_t tokens = 0;
  for (const char* c = kCalls; *c; ++c) {
    Push(output, {c, 1});
    for (std::string& text : All(output)) {
      if (!told.empty() && told.back().starts_with("0: ") && text.starts_with("0: ")) {
        told.back() += text.substr(3);
      } else if (!told.empty() && told.back().size() < 7 && text.size() == 1) {
        told.back() += text;
      } else {
        told.push_back(text);
      }
    }
    tokens = output.end().tokens;
  }
  EXPECT_GT(tokens, std::string_view(kCalls).size() / 2);
  output.Finish();
  for (std::string& text : All(output)) told.push_back(text);
  EXPECT_THAT(told,
              ::testing::ElementsAre("I look.", "0 find(", R"(0: {"q": "a}\""})", "1 stop(", "1: {", "1: }"));
  EXPECT_TRUE(output.called());
  EXPECT_EQ(output.end().tool_argument_bytes, 15u);
  EXPECT_EQ(output.end().text_bytes, 7u);
  EXPECT_EQ(output.end().tokens, std::string_view(kCalls).size());
}

TEST_F(OutputTest, StopStringsAreLookedForInTheContentOnly) {
  Output output(vocabulary_, WithTools({"a}"}));
  Push(output, kCalls);
  EXPECT_FALSE(output.stop_match());
  Push(output, "xa}y");
  EXPECT_EQ(output.stop_match(), "a}");
}

TEST_F(OutputTest, WhatIsNoCallIsContent) {
  Output output(vocabulary_, WithTools());
  Push(output, "a<tool_call>no<tool_");
  output.Finish();
  EXPECT_THAT(All(output), ::testing::ElementsAre("a<tool_call>no<tool_"));
  EXPECT_FALSE(output.called());
}

TEST_F(OutputTest, ThePromptMayHoldTheBeginningOfACall) {
  Output output(vocabulary_,
                {{}, false, "", {}, [] { return ToolCallText(CallPrefix({{"find", "", "{}"}})); }});
  EXPECT_TRUE(output.empty());
  Push(output, " {\"q\":1}");
  EXPECT_THAT(All(output), ::testing::ElementsAre("0 find(", R"(0: {"q":1})"));
}

TEST_F(OutputTest, ThoughtsAreKeptApart) {
  for (const bool begun : {false, true}) {
    Output output(vocabulary_, {{}, false, "", {}, [=] {
                                  return SplitReasoning("<think>", {"</think>"}, begun, PlainContent());
                                }});
    Push(output, begun ? "\nhm</think>\n\nyes" : "\n<think>\nhm</think>\n\nyes");
    output.Finish();
    EXPECT_THAT(All(output), ::testing::ElementsAre("think: hm", "yes"));
    EXPECT_EQ(output.end().reasoning_bytes, 2u);
    EXPECT_GT(output.reasoning_tokens(), 1u);
  }
  Output none(vocabulary_, {{}, false, "", {}, [] {
                              return SplitReasoning("<think>", {"</think>"}, false, PlainContent());
                            }});
  Push(none, "<thin");
  EXPECT_TRUE(none.empty());
  Push(none, "g>");
  none.Finish();
  EXPECT_THAT(All(none), ::testing::ElementsAre("<thing>"));
}

TEST_F(OutputTest, EveryCutGoesOnWithWhatIsLeft) {
  const std::string text = std::string("<think>hm</think>") + kCalls + " done";
  const OutputOptions options = {{"never"}, false, "", {}, [] {
                                   return SplitReasoning("<think>", {"</think>"}, false, ToolCallText(""));
                                 }};
  struct Told {
    std::string text, reasoning, arguments, calls;
    cyllm_offsets end{};
    std::vector<Token> tokens;
    void Add(const Delta& delta) {
      if (delta.part.opens) calls += delta.part.name + " ";
      (delta.part.kind == MessagePart::Kind::kText        ? text
       : delta.part.kind == MessagePart::Kind::kReasoning ? reasoning
                                                          : arguments) += delta.part.text;
      tokens.insert(tokens.end(), delta.tokens.begin(), delta.tokens.end());
      end = delta.end;
    }
  };
  std::vector<Delta> deltas;
  Output whole(vocabulary_, options);
  for (const char c : text) {
    Push(whole, {&c, 1});
    while (auto delta = whole.Take()) deltas.push_back(*delta);
  }
  whole.Finish();
  while (auto delta = whole.Take()) deltas.push_back(*delta);
  Told expected;
  for (const Delta& delta : deltas) expected.Add(delta);
  EXPECT_EQ(expected.calls, "find stop ");
  EXPECT_EQ(expected.reasoning, "hm");
  EXPECT_EQ(expected.tokens.size(), text.size());
  for (size_t cut = 0; cut <= deltas.size(); ++cut) {
    Told got;
    for (size_t i = 0; i < cut; ++i) got.Add(deltas[i]);
    Output second(vocabulary_, options);
    for (const Token token : got.tokens) second.Push({token, 0, {}}, true);
    ASSERT_TRUE(second.Skip(got.end)) << cut << " " << got.text << got.arguments;
    for (size_t i = got.tokens.size(); i < text.size(); ++i) {
      Push(second, {&text[i], 1});
      while (auto delta = second.Take()) got.Add(*delta);
    }
    second.Finish();
    while (auto delta = second.Take()) got.Add(*delta);
    EXPECT_EQ(got.text, expected.text) << cut;
    EXPECT_EQ(got.reasoning, expected.reasoning) << cut;
    EXPECT_EQ(got.arguments, expected.arguments) << cut;
    EXPECT_EQ(got.calls, expected.calls) << cut;
    EXPECT_EQ(got.tokens, expected.tokens) << cut;
    EXPECT_EQ(got.end.tool_argument_bytes, expected.end.tool_argument_bytes) << cut;
    EXPECT_EQ(second.reasoning_tokens(), whole.reasoning_tokens()) << cut;
  }
  Output wrong(vocabulary_, options);
  Push(wrong, "ab");
  EXPECT_FALSE(wrong.Skip({2, 300, 0, 0}));
}

}  // namespace
}  // namespace cyllm::llama
