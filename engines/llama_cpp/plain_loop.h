// For tests: what a plain loop over libllama says, greedily, and how sure the model was of it.
#pragma once

#include <gtest/gtest.h>
#include <llama-cpp.h>

#include <algorithm>
#include <vector>

#include "llama_cpp/llama_model.h"
#include "llama_cpp/request.h"
#include "llama_cpp/test_client.h"

namespace cyllm::llama::testing {

struct PlainText {
  std::vector<Token> tokens;  // without the one that ends
  size_t firm = 0;            // so many of them were chosen with some distance to the next best
};

// One sequence, the whole prompt in one batch, then token after token, on one thread. Where an engine
// computes otherwise than this (README.md, Equal texts) it can take the second best where two tokens are
// nearly as likely: up to there (`firm`) they have to agree in any case.
inline PlainText PlainLoop(const LoadedModel& loaded, TestRequest& in,
                           llama_adapter_lora* adapter = nullptr) {
  cyllm_error error{};
  error.size = sizeof error;
  auto request = ReadRequest(in.get(), loaded.vocabulary->size(), 0, &error);
  EXPECT_TRUE(request && FillPrompt(*loaded.chat, *loaded.vocabulary, 2048, request.get(), &error))
      << error.message;
  llama_context_params params = llama_context_default_params();
  params.n_ctx = params.n_batch = params.n_ubatch = 2048;
  params.n_threads = params.n_threads_batch = 1;  // others may be busy: no barriers
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_AUTO;
  llama_context_ptr context(llama_init_from_model(static_cast<llama_model*>(loaded.model.get()), params));
  float scale = 1;
  llama_set_adapters_lora(context.get(), &adapter, adapter ? 1 : 0, &scale);
  PlainText out;
  bool sure = true;
  std::vector<Token> next = request->prompt;
  while (true) {
    EXPECT_EQ(
        llama_decode(context.get(), llama_batch_get_one(next.data(), static_cast<int32_t>(next.size()))), 0);
    const float* logits = llama_get_logits_ith(context.get(), -1);
    std::vector<Token> best(loaded.vocabulary->size());
    for (size_t i = 0; i < best.size(); ++i) best[i] = static_cast<Token>(i);
    std::partial_sort(best.begin(), best.begin() + 2, best.end(),
                      [&](Token a, Token b) { return logits[a] > logits[b]; });
    constexpr float kSure = 0.5f;
    sure = sure && logits[best[0]] - logits[best[1]] > kSure;
    if (loaded.vocabulary->IsEnd(best[0])) return out;
    out.tokens.push_back(best[0]);
    out.firm += sure;
    if (out.tokens.size() == request->max_tokens) return out;
    next = {best[0]};
  }
}

// Counts the tokens that were compared.
inline size_t ExpectAgrees(const PlainText& plain, const ChoiceResult& choice, const std::string& what) {
  EXPECT_GE(choice.tokens.size(), plain.firm) << what;
  const size_t n = std::min(plain.firm, choice.tokens.size());
  EXPECT_TRUE(std::equal(plain.tokens.begin(), plain.tokens.begin() + static_cast<ptrdiff_t>(n),
                         choice.tokens.begin()))
      << what << ": " << choice.text;
  return n;
}

}  // namespace cyllm::llama::testing
