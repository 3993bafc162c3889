#pragma once

#include <memory>
#include <string>

#include "llama_cpp/decoder.h"
#include "llama_cpp/llama_adapters.h"
#include "llama_cpp/options.h"

struct llama_model;

namespace cyllm::llama {

// What the model's file says under `key`; empty: nothing.
std::string Meta(const llama_model* model, const std::string& key);

// Bytes of the KV cache that one token takes.
uint64_t KvBytesPerToken(const llama_model* model, const std::string& dtype);

// Whether layers are computed by something else than the CPU.
bool Offloads(const Options& options);

// Whether what a sequence of it holds can be cut anywhere and copied.
bool CanCut(const llama_model* model);

// A context of `model`, which outlives it, and its adapters, with room for the plan's sequences of
// plan.max_model_len tokens each. Null and `error` when there is not enough memory.
std::unique_ptr<Decoder> MakeDecoder(llama_model* model, const LlamaAdapters& adapters,
                                     const Options& options, const KvPlan& plan, std::string* error);

}  // namespace cyllm::llama
