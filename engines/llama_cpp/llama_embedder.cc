#include <llama-cpp.h>

#include <algorithm>
#include <cstring>

#include "llama_cpp/embedder.h"
#include "llama_cpp/llama_decoder.h"

namespace cyllm::llama {

namespace {

constexpr uint32_t kInputs = 16;    // of one run
constexpr uint32_t kTokens = 2048;  // of one input, at most
constexpr uint32_t kStep = 256;     // tokens of a step, of a model that can be computed in steps

enum llama_pooling_type PoolingOf(const llama_model* model) {
  const std::string type = Meta(model, Meta(model, "general.architecture") + ".pooling_type");
  return type.empty() ? LLAMA_POOLING_TYPE_MEAN
                      : static_cast<enum llama_pooling_type>(std::atoi(type.c_str()));
}

class LlamaEmbedder final : public Embedder {
 public:
  LlamaEmbedder(llama_model* model, const EmbedTraits& traits)
      : model_(model),
        traits_(traits),
        pooling_(PoolingOf(model)),
        width_(static_cast<size_t>(llama_model_n_embd_out(model))) {}

  bool Open(const Options& options) {
    llama_context_params params = llama_context_default_params();
    params.embeddings = true;
    params.n_ctx = traits_.max_tokens;
    params.n_seq_max = kInputs;
    params.kv_unified = true;
    // In steps a vector of each token is taken and pooled here; else llama.cpp needs all of an input at once.
    stepwise_ = traits_.causal && !traits_.ranks;
    params.n_batch = params.n_ubatch = stepwise_ ? std::min(kStep, traits_.max_tokens) : traits_.max_tokens;
    params.pooling_type = stepwise_ ? LLAMA_POOLING_TYPE_NONE : pooling_;
    params.n_threads = params.n_threads_batch = static_cast<int32_t>(ThreadsOf(options));
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_AUTO;
    step_ = params.n_batch;
    context_.reset(llama_init_from_model(model_, params));
    if (!context_) return false;
    batch_ = llama_batch_init(static_cast<int32_t>(step_), 0, 1);
    return true;
  }
  ~LlamaEmbedder() override { llama_batch_free(batch_); }

  bool ranks() const override { return traits_.ranks; }
  uint32_t max_tokens() const override { return traits_.max_tokens; }
  uint32_t max_inputs() const override { return kInputs; }

  std::vector<Token> Pair(const std::vector<Token>& query, const std::vector<Token>& text) const override {
    const llama_vocab* vocab = llama_model_get_vocab(model_);
    const Token sep = llama_vocab_sep(vocab);
    const Token eos = llama_vocab_eos(vocab) >= 0 ? llama_vocab_eos(vocab) : sep;
    std::vector<Token> out;
    const auto add = [&](bool wanted, Token token) {
      if (wanted && token >= 0) out.push_back(token);
    };
    add(llama_vocab_get_add_bos(vocab), llama_vocab_bos(vocab));
    out.insert(out.end(), query.begin(), query.end());
    add(llama_vocab_get_add_eos(vocab), eos);
    add(llama_vocab_get_add_sep(vocab), sep);
    out.insert(out.end(), text.begin(), text.end());
    add(llama_vocab_get_add_eos(vocab), eos);
    return out;
  }

  bool Run(std::span<const std::vector<Token>> inputs, const std::function<bool()>& between,
           std::vector<std::vector<float>>* out) override {
    out->assign(inputs.size(), {});
    llama_memory_clear(llama_get_memory(context_.get()), true);
    batch_.n_tokens = 0;
    for (size_t i = 0; i < inputs.size(); ++i) {
      for (size_t k = 0; k < inputs[i].size(); ++k) {
        Add(inputs[i][k], k, i);
        if (batch_.n_tokens == static_cast<int32_t>(step_) && !Step(inputs, out)) return false;
        if (batch_.n_tokens == 0 && !between()) return false;
      }
    }
    if (batch_.n_tokens > 0 && !Step(inputs, out)) return false;
    if (stepwise_ && pooling_ == LLAMA_POOLING_TYPE_MEAN)
      for (size_t i = 0; i < inputs.size(); ++i)
        for (float& v : (*out)[i]) v /= static_cast<float>(inputs[i].size());
    return true;
  }

 private:
  void Add(Token token, size_t position, size_t input) {
    const int32_t n = batch_.n_tokens++;
    batch_.token[n] = token;
    batch_.pos[n] = static_cast<llama_pos>(position);
    batch_.n_seq_id[n] = 1;
    batch_.seq_id[n][0] = static_cast<llama_seq_id>(input);
    batch_.logits[n] = true;
  }

  bool Step(std::span<const std::vector<Token>> inputs, std::vector<std::vector<float>>* out) {
    if (llama_decode(context_.get(), batch_) != 0) return false;
    for (int32_t i = 0; i < batch_.n_tokens; ++i) {
      const auto input = static_cast<size_t>(batch_.seq_id[i][0]);
      std::vector<float>& vector = (*out)[input];
      if (stepwise_) {
        const float* one = llama_get_embeddings_ith(context_.get(), i);
        if (!one) return false;
        const auto at = static_cast<size_t>(batch_.pos[i]);
        if (pooling_ == LLAMA_POOLING_TYPE_MEAN) {
          vector.resize(width_);
          for (size_t k = 0; k < width_; ++k) vector[k] += one[k];
        } else if (at == (pooling_ == LLAMA_POOLING_TYPE_CLS ? 0 : inputs[input].size() - 1)) {
          vector.assign(one, one + width_);
        }
      } else if (vector.empty()) {
        const float* one = llama_get_embeddings_seq(context_.get(), batch_.seq_id[i][0]);
        if (!one) return false;
        vector.assign(one, one + (traits_.ranks ? 1 : width_));
      }
    }
    batch_.n_tokens = 0;
    return true;
  }

  llama_model* const model_;
  const EmbedTraits traits_;
  const enum llama_pooling_type pooling_;
  const size_t width_;
  bool stepwise_ = true;
  uint32_t step_ = 0;
  llama_batch batch_{};
  llama_context_ptr context_;
};

}  // namespace

EmbedTraits EmbedTraitsOf(const llama_model* model, const Options& options) {
  EmbedTraits out;
  out.causal = Meta(model, Meta(model, "general.architecture") + ".attention.causal") != "false";
  out.ranks = PoolingOf(model) == LLAMA_POOLING_TYPE_RANK;
  const auto trained = static_cast<uint32_t>(std::max(1, llama_model_n_ctx_train(model)));
  out.max_tokens = std::min(trained, kTokens);
  if (options.max_model_len > 0) out.max_tokens = std::min(out.max_tokens, options.max_model_len);
  const uint64_t step = out.causal && !out.ranks ? std::min(kStep, out.max_tokens) : out.max_tokens;
  const auto vocabulary = static_cast<uint64_t>(llama_vocab_n_tokens(llama_model_get_vocab(model)));
  out.bytes = KvBytesPerToken(model, "f16") * out.max_tokens + (out.causal ? step * vocabulary * 4 : 0);
  return out;
}

std::unique_ptr<Embedder> MakeEmbedder(llama_model* model, const Options& options, std::string* error) {
  auto out = std::make_unique<LlamaEmbedder>(model, EmbedTraitsOf(model, options));
  if (out->Open(options)) return out;
  *error = "no context for embeddings could be made: too little memory?";
  return nullptr;
}

}  // namespace cyllm::llama
