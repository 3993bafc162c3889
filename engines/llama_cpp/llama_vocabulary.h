#pragma once

#include <memory>

#include "llama_cpp/vocabulary.h"

struct llama_model;

namespace cyllm::llama {

// Of a loaded model, which outlives it.
std::unique_ptr<Vocabulary> MakeVocabulary(const llama_model* model);

}  // namespace cyllm::llama
