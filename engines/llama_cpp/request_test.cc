#include "llama_cpp/request.h"

#include <gtest/gtest.h>

#include "llama_cpp/fake_model.h"
#include "llama_cpp/test_client.h"

namespace cyllm::llama {
namespace {

using testing::FakeChat;
using testing::TestRequest;

// A token for so many bytes.
class CoarseVocabulary final : public Vocabulary {
 public:
  explicit CoarseVocabulary(size_t bytes) : bytes_(bytes) {}
  uint32_t size() const override { return 256; }
  bool IsEnd(Token) const override { return false; }
  const std::vector<Token>& end_tokens() const override { return end_; }
  std::string Piece(Token) const override { return {}; }
  std::vector<Token> Tokenize(std::string_view text, bool) const override {
    read += text.size();
    EXPECT_TRUE(sdk::IsUtf8(text));
    return std::vector<Token>(text.size() / bytes_, 1);
  }
  mutable size_t read = 0;

 private:
  const size_t bytes_;
  const std::vector<Token> end_;
};

// Empty: it fits.
std::string Refusal(const Vocabulary& vocabulary, const std::string& prompt) {
  TestRequest in(1);
  in.Text(prompt);
  cyllm_error error{};
  error.size = sizeof error;
  auto request = ReadRequest(in.get(), vocabulary.size(), 0, &error);
  EXPECT_TRUE(request) << error.message;
  return FillPrompt(FakeChat(), vocabulary, 100, request.get(), &error) ? std::string() : error.message;
}

TEST(RequestTest, OfAPromptThatIsFarTooLongTheBeginningIsRead) {
  CoarseVocabulary vocabulary(5);
  std::string prompt = "w";
  while (prompt.size() < 100'000) prompt += "ö";  // no character is cut
  EXPECT_EQ(Refusal(vocabulary, prompt),
            "this model's maximum context length is 100 tokens; the prompt has about 19950 and exceeds the "
            "available context size");
  EXPECT_LT(vocabulary.read, 2'000u);
}

TEST(RequestTest, WhatMayFitIsReadWhole) {
  CoarseVocabulary blanks(1'020), fits(40), not_quite(40);
  EXPECT_EQ(Refusal(blanks, std::string(100'000, ' ')), "");
  EXPECT_EQ(Refusal(fits, std::string(3'900, 'x')), "");
  EXPECT_EQ(Refusal(not_quite, std::string(4'000, 'x')),
            "this model's maximum context length is 100 tokens; the prompt has 100 and exceeds the available "
            "context size");
}

}  // namespace
}  // namespace cyllm::llama
