#include "llama_cpp/llama_vocabulary.h"

#include <llama.h>

namespace cyllm::llama {

namespace {

constexpr size_t kSmall = 1 << 20;

class LlamaVocabulary final : public Vocabulary {
 public:
  explicit LlamaVocabulary(const llama_vocab* vocab) : vocab_(vocab) {
    for (Token t = 0; t < static_cast<Token>(size()); ++t)
      if (llama_vocab_is_eog(vocab_, t)) end_tokens_.push_back(t);
  }

  uint32_t size() const override { return static_cast<uint32_t>(llama_vocab_n_tokens(vocab_)); }
  bool IsEnd(Token token) const override { return llama_vocab_is_eog(vocab_, token); }
  const std::vector<Token>& end_tokens() const override { return end_tokens_; }

  std::optional<Infill> infill() const override {
    const Infill out{llama_vocab_fim_pre(vocab_), llama_vocab_fim_suf(vocab_), llama_vocab_fim_mid(vocab_)};
    return out.prefix < 0 || out.suffix < 0 || out.middle < 0 ? std::nullopt : std::optional(out);
  }

  std::string Piece(Token token) const override {
    std::string out(32, '\0');
    int32_t n = llama_token_to_piece(vocab_, token, out.data(), static_cast<int32_t>(out.size()), 0, false);
    if (n < 0) {
      out.resize(static_cast<size_t>(-n));
      n = llama_token_to_piece(vocab_, token, out.data(), -n, 0, false);
    }
    out.resize(static_cast<size_t>(n < 0 ? 0 : n));
    return out;
  }

  std::vector<Token> Tokenize(std::string_view text, bool begin) const override {
    const auto length = static_cast<int32_t>(text.size());
    // A byte is a token at most. For what is large, a guess: it is done again where that was too short.
    std::vector<Token> out(text.size() / (text.size() <= kSmall ? 1 : 3) + 16);
    int32_t n = llama_tokenize(vocab_, text.data(), length, out.data(), static_cast<int32_t>(out.size()),
                               begin, true);
    if (n < 0 && n != INT32_MIN) {
      out.resize(static_cast<size_t>(-n));
      n = llama_tokenize(vocab_, text.data(), length, out.data(), -n, begin, true);
    }
    out.resize(static_cast<size_t>(n < 0 ? 0 : n));
    return out;
  }

 private:
  const llama_vocab* const vocab_;
  std::vector<Token> end_tokens_;
};

}  // namespace

std::unique_ptr<Vocabulary> MakeVocabulary(const llama_model* model) {
  return std::make_unique<LlamaVocabulary>(llama_model_get_vocab(model));
}

}  // namespace cyllm::llama
