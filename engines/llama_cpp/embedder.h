// Vectors of texts, and scores of them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "llama_cpp/decoder.h"
#include "llama_cpp/options.h"

struct llama_model;

namespace cyllm::llama {

// Used by one thread.
class Embedder {
 public:
  virtual ~Embedder() = default;

  virtual bool ranks() const = 0;           // gives one score, not a vector
  virtual uint32_t max_tokens() const = 0;  // of one input
  virtual uint32_t max_inputs() const = 0;  // of one Run; their tokens together: max_tokens() at most

  // The tokens of a query and a document as the model wants to rank them.
  virtual std::vector<Token> Pair(const std::vector<Token>& query, const std::vector<Token>& text) const = 0;

  // Blocks. Vectors as the model gives them. `between` is called between steps; false stops. False: stopped,
  // or failed.
  virtual bool Run(std::span<const std::vector<Token>> inputs, const std::function<bool()>& between,
                   std::vector<std::vector<float>>* out) = 0;
};

// What a model's file says about it.
struct EmbedTraits {
  bool causal = true;  // each token sees those before it only: can also continue text
  bool ranks = false;  // has a head that ranks
  uint64_t bytes = 0;  // of memory that an embedder takes, about
  uint32_t max_tokens = 0;
};
EmbedTraits EmbedTraitsOf(const llama_model* model, const Options& options);

// A context of its own over `model`, which outlives it. Null and `error` when there is no room for it.
std::unique_ptr<Embedder> MakeEmbedder(llama_model* model, const Options& options, std::string* error);

}  // namespace cyllm::llama
