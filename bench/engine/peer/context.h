// A context of 16 sequences that hold `length` tokens each, and what steps on it take.
#pragma once

#include <ggml-backend.h>
#include <llama-cpp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <vector>

inline constexpr int kSequences = 16;

struct Row {
  int sequence, position;
  bool logits;
};

class Context {
 public:
  Context(llama_model* model, int threads, int length, bool unified) {
    llama_context_params params = llama_context_default_params();
    params.n_seq_max = kSequences;
    params.n_ctx = static_cast<uint32_t>(kSequences * (length + 512));
    params.n_batch = params.n_ubatch = 512;
    params.n_threads = params.n_threads_batch = threads;
    params.kv_unified = unified;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    context_.reset(llama_init_from_model(model, params));
    if (!context_) std::exit(1);
    for (int s = 0; s < kSequences; ++s)
      for (int at = 0; at < length; at += 256) Chunk(s, at, std::min(256, length - at));
  }

  // Milliseconds.
  double Compute(const std::vector<Row>& rows) {
    llama_batch batch = llama_batch_init(static_cast<int32_t>(rows.size()), 0, 1);
    for (const Row& row : rows) {
      const int i = batch.n_tokens++;
      batch.token[i] = 1000 + (row.sequence * 7919 + row.position * 104729) % 30000;
      batch.pos[i] = row.position;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = row.sequence;
      batch.logits[i] = row.logits;
    }
    const auto begin = std::chrono::steady_clock::now();
    if (llama_decode(context_.get(), batch) != 0) std::exit(1);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    llama_batch_free(batch);
    return took.count();
  }

  double Chunk(int sequence, int position, int tokens) {
    std::vector<Row> rows;
    for (int i = 0; i < tokens; ++i) rows.push_back({sequence, position + i, i + 1 == tokens});
    return Compute(rows);
  }

  void Cut(int sequence, int position) {
    llama_memory_seq_rm(llama_get_memory(context_.get()), sequence, position, -1);
  }

 private:
  llama_context_ptr context_;
};

inline double Decode(Context* context, int length, const std::vector<int>& sequences) {
  std::vector<Row> rows;
  for (const int s : sequences) rows.push_back({s, length, true});
  const double took = context->Compute(rows);
  for (const int s : sequences) context->Cut(s, length);
  return took;
}

inline std::vector<int> First(int count, int without = -1) {
  std::vector<int> out;
  for (int s = 0; static_cast<int>(out.size()) < count; ++s)
    if (s != without) out.push_back(s);
  return out;
}

// Null when there is no such model.
inline llama_model_ptr Load(const char* path) {
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  ggml_backend_load_all();
  return llama_model_ptr(llama_model_load_from_file(path, llama_model_default_params()));
}
