// A loaded model with all that a request needs of it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "llama_cpp/aside.h"
#include "llama_cpp/chat_template.h"
#include "llama_cpp/decoder.h"
#include "llama_cpp/options.h"
#include "llama_cpp/vocabulary.h"
#include "sdk/engine.h"

namespace cyllm::llama {

// How far loading is; false stops it.
using LoadProgress = std::function<bool(double fraction, const std::string& detail)>;

// Members are destroyed from the last to the first: `model` is the owner of what the others point to.
struct LoadedModel {
  std::shared_ptr<void> model;
  std::unique_ptr<Vocabulary> vocabulary;
  std::unique_ptr<ChatTemplate> chat;
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<Decoder> prompts;  // for a prompt lane; null: there is none
  AsideModel aside;
  bool generates = true;      // else the decoder is none, and only `aside` is of use
  uint64_t capabilities = 0;  // CYLLM_CAP_*
  uint64_t memory_bytes = 0;  // weights, KV cache, and what embeddings will take
  std::string digest;         // of the model's file, the template and the adapters
};

// Blocks. Null and a filled `error` on failure.
std::unique_ptr<LoadedModel> LoadModel(const Options& options, const LoadProgress& progress,
                                       cyllm_error* error);

}  // namespace cyllm::llama
