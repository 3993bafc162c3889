// The adapters (LoRA) of a model.
#pragma once

#include <string>
#include <vector>

#include "llama_cpp/options.h"

struct llama_adapter_lora;
struct llama_model;

namespace cyllm::llama {

// In the order of their names, both. Freed with the model.
struct LlamaAdapters {
  std::vector<std::string> names;
  std::vector<llama_adapter_lora*> loras;
};

// Those that the options name, before any context of `model` is made. On failure false, and `error` names the
// adapter, its file and what is wrong with it.
bool LoadAdapters(llama_model* model, const Options& options, LlamaAdapters* out, std::string* error);

}  // namespace cyllm::llama
