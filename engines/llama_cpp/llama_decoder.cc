#include "llama_cpp/llama_decoder.h"

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <llama-cpp.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <numeric>
#include <unordered_map>
#include <utility>
#include <vector>

#include "llama_cpp/batch_parts.h"
#include "llama_cpp/kv_width.h"
#include "llama_cpp/sequence_state.h"
#include "llama_cpp/speculation.h"
#include "llama_cpp/step_width.h"
#include "llama_cpp/thread_governor.h"

namespace cyllm::llama {

namespace {

ggml_type TypeOf(const std::string& dtype) {
  if (dtype == "bf16") return GGML_TYPE_BF16;
  return dtype == "q8_0" ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
}

// ggml's compute threads. They sleep between steps instead of spinning, and yield to threads that wake up:
// the process also has to serve.
class ThreadPool {
 public:
  explicit ThreadPool(uint32_t threads) {
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    ggml_backend_reg_t reg = cpu ? ggml_backend_dev_backend_reg(cpu) : nullptr;
    if (!reg) return;
    const auto make = reinterpret_cast<decltype(ggml_threadpool_new)*>(
        ggml_backend_reg_get_proc_address(reg, "ggml_threadpool_new"));
    free_ = reinterpret_cast<decltype(ggml_threadpool_free)*>(
        ggml_backend_reg_get_proc_address(reg, "ggml_threadpool_free"));
    if (!make || !free_) return;
    ggml_threadpool_params params = ggml_threadpool_params_default(static_cast<int>(threads));
    params.poll = 0;
    params.prio = GGML_SCHED_PRIO_LOW;
    pool_ = make(&params);
  }
  ~ThreadPool() {
    if (pool_) free_(pool_);
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  ggml_threadpool_t get() const { return pool_; }

 private:
  decltype(ggml_threadpool_free)* free_ = nullptr;
  ggml_threadpool_t pool_ = nullptr;
};

class LlamaDecoder final : public Decoder {
 public:
  LlamaDecoder(llama_model* model, LlamaAdapters adapters, uint32_t threads)
      : adapters_(std::move(adapters)),
        threads_(threads),
        governor_(threads),
        vocabulary_(static_cast<uint32_t>(llama_vocab_n_tokens(llama_model_get_vocab(model)))),
        can_copy_(CanCut(model)),
        windows_(llama_model_n_swa(model) > 0) {}

  bool Open(llama_model* model, const Options& options, const KvPlan& plan) {
    llama_context_params params = llama_context_default_params();
    copies_streams_ = Offloads(options) || windows_;
    tiles_ = !Offloads(options) && options.kv_cache_dtype != "q8_0";
    fills_ = !Offloads(options) && can_copy_;
    max_running_ = plan.max_num_seqs;
    max_sequences_ = max_running_ + (can_copy_ ? plan.spare : 0);
    params.n_seq_max = max_sequences_;
    params.n_ctx = plan.max_model_len * max_sequences_;
    params.kv_unified = false;
    params.swa_full = true;  // layers with a window keep all tokens too: prefixes can be reused
    params.n_batch = std::max(options.prefill_chunk + plan.max_num_seqs, 2 * kTileRows) + kTileRows;  // Chunk
    params.n_ubatch = ubatch_ = std::min<uint32_t>(params.n_batch, 512);
    params.n_outputs_max = std::max(max_sequences_, GuessLength::kMost + 1);
    params.n_threads = params.n_threads_batch = static_cast<int32_t>(threads_);
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_AUTO;
    params.type_k = params.type_v = TypeOf(options.kv_cache_dtype);
    params.abort_callback = [](void* self) {
      const auto* abort = static_cast<LlamaDecoder*>(self)->abort_;
      return abort && abort->load(std::memory_order_relaxed);
    };
    params.abort_callback_data = this;
    context_.reset(llama_init_from_model(model, params));
    if (!context_) return false;
    if (pool_.get()) llama_attach_threadpool(context_.get(), pool_.get(), nullptr);
    max_length_ = std::min(plan.max_model_len, llama_n_ctx_seq(context_.get()));
    batch_.resize(params.n_batch);
    Warm(model);
    return true;
  }

  uint32_t max_sequences() const override { return max_sequences_; }
  uint32_t max_running() const override { return max_running_; }
  uint32_t max_length() const override { return max_length_; }
  uint32_t vocabulary() const override { return vocabulary_; }
  uint32_t threads() const override { return threads_; }
  void SetThreads(uint32_t threads) override { granted_ = std::min(threads, threads_); }
  bool can_copy() const override { return can_copy_; }
  const std::vector<std::string>& adapters() const override { return adapters_.names; }
  // llama.cpp itself looks whether it is another one: then it plans its memory anew.
  void SetAdapter(uint32_t adapter) override {
    float scale = 1;
    llama_set_adapters_lora(context_.get(), adapter == 0 ? nullptr : &adapters_.loras.at(adapter - 1),
                            adapter == 0 ? 0 : 1, &scale);
  }

  DecodeResult Decode(std::span<const Row> rows, const std::atomic<bool>& abort) override {
    abort_ = &abort;
    kept_.clear();
    const auto wanted = static_cast<uint32_t>(rows.size());
    const auto threads = std::min(granted_, governor_.threads());
    const bool tokens = fills_ && OneOfEach(rows);
    if (tokens) rows = FillUp(rows, width_.Choose(wanted, threads));
    if (tiles_) {
      Part(rows, ubatch_, &parts_);
    } else {
      parts_.resize(1);
      parts_[0].resize(rows.size());
      std::iota(parts_[0].begin(), parts_[0].end(), 0);
    }
    llama_set_n_threads(context_.get(), static_cast<int32_t>(threads), static_cast<int32_t>(threads));
    const auto wall = std::chrono::steady_clock::now();
    const auto cpu = ProcessCpu();
    int32_t result = 0;
    for (size_t i = 0; i < parts_.size() && result == 0; ++i) {
      result = Compute(batch_.Fill(rows, parts_[i]));
      if (parts_.size() > 1 && result == 0) Keep(rows, parts_[i]);
    }
    const ThreadGovernor::Seconds took = std::chrono::steady_clock::now() - wall;
    // With fewer, others of this process compute too: the time it gets says nothing.
    if (granted_ == threads_) governor_.Report(took, ProcessCpu() - cpu);
    if (tokens && result == 0) width_.Report(wanted, threads, took);
    for (const Row& row : rows.subspan(wanted)) Truncate(row.sequence, row.position);
    abort_ = nullptr;
    if (result == 0) return DecodeResult::kOk;
    return result == 2 ? DecodeResult::kAborted : DecodeResult::kFailed;
  }

  std::span<float> Logits(size_t i) override {
    if (const auto it = kept_.find(i); it != kept_.end()) return it->second;
    return {llama_get_logits_ith(context_.get(), static_cast<int32_t>(i)), vocabulary_};
  }

  void Truncate(uint32_t sequence, uint32_t position) override {
    llama_memory_seq_rm(memory(), static_cast<llama_seq_id>(sequence),
                        position == 0 ? -1 : static_cast<llama_pos>(position), -1);
  }

  // llama.cpp copies a stream with all its room, and only when the next batch comes. Writing out what is used
  // and reading it back takes effect at once, and less time while sequences are short. One way or the other:
  // mixed, what is to be copied later would be overwritten before.
  void Copy(uint32_t from, uint32_t to) override {
    const auto source = static_cast<llama_seq_id>(from), target = static_cast<llama_seq_id>(to);
    if (!copies_streams_) {
      if (Save(from, &copy_) && Restore(to, copy_)) return;
      copies_streams_ = true;
    }
    llama_memory_seq_cp(memory(), source, target, -1, -1);
  }

  bool Save(uint32_t sequence, std::vector<uint8_t>* state) override {
    if (windows_) return false;
    const auto id = static_cast<llama_seq_id>(sequence);
    state->resize(llama_state_seq_get_size(context_.get(), id));
    state->resize(llama_state_seq_get_data(context_.get(), state->data(), state->size(), id));
    return Generalise(sequence, max_sequences_, state);
  }

  bool Restore(uint32_t sequence, std::span<uint8_t> state) override {
    const auto id = static_cast<llama_seq_id>(sequence);
    if (Fit(max_sequences_, state) &&
        llama_state_seq_set_data(context_.get(), state.data(), state.size(), id) > 0)
      return true;
    Truncate(sequence, 0);
    return false;
  }

 private:
  // llama_batch over arrays that stay.
  class Batch {
   public:
    void resize(size_t n) {
      tokens_.resize(n);
      positions_.resize(n);
      ids_.resize(n);
      counts_.assign(n, 1);
      pointers_.resize(n);
      logits_.resize(n);
      for (size_t i = 0; i < n; ++i) pointers_[i] = &ids_[i];
    }
    llama_batch Fill(std::span<const Row> rows, std::span<const uint32_t> part) {
      const size_t n = part.size();
      if (n > tokens_.size()) resize(n);
      for (size_t i = 0; i < n; ++i) {
        const Row& row = rows[part[i]];
        tokens_[i] = row.token;
        positions_[i] = static_cast<llama_pos>(row.position);
        ids_[i] = static_cast<llama_seq_id>(row.sequence);
        logits_[i] = row.logits;
      }
      return {static_cast<int32_t>(n), tokens_.data(),   nullptr,       positions_.data(),
              counts_.data(),          pointers_.data(), logits_.data()};
    }

   private:
    std::vector<llama_token> tokens_;
    std::vector<llama_pos> positions_;
    std::vector<llama_seq_id> ids_;
    std::vector<int32_t> counts_;
    std::vector<llama_seq_id*> pointers_;
    std::vector<int8_t> logits_;
  };

  static ThreadGovernor::Seconds ProcessCpu() {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
  }

  // Whether neighbours compute a token each.
  static bool OneOfEach(std::span<const Row> rows) {
    for (size_t i = 0; i < rows.size(); ++i)
      if (!rows[i].logits || rows[i].sequence != rows.front().sequence + i) return false;
    return true;
  }

  // The next neighbours compute a token too, whichever, that is forgotten afterwards; as far as there are
  // some with room. Their logits are computed as well: the output matrix has the same blocks.
  std::span<const Row> FillUp(std::span<const Row> rows, size_t width) {
    if (width <= rows.size()) return rows;
    filled_.assign(rows.begin(), rows.end());
    for (uint32_t s = rows.back().sequence + 1; s < max_sequences_ && filled_.size() < width; ++s) {
      const auto end = llama_memory_seq_pos_max(memory(), static_cast<llama_seq_id>(s)) + 1;
      if (static_cast<uint32_t>(end) >= max_length_) break;
      filled_.push_back({s, static_cast<uint32_t>(end), rows.front().token, true});
    }
    return filled_;
  }

  // Planning its memory anew for another adapter, llama.cpp throws where there is none.
  int32_t Compute(const llama_batch& batch) {
    try {
      return llama_decode(context_.get(), batch);
    } catch (const std::exception&) {
      return -1;
    }
  }

  // The next part's take the place of these.
  void Keep(std::span<const Row> rows, std::span<const uint32_t> part) {
    for (size_t i = 0; i < part.size(); ++i) {
      if (!rows[part[i]].logits) continue;
      const float* logits = llama_get_logits_ith(context_.get(), static_cast<int32_t>(i));
      kept_.try_emplace(part[i], logits, logits + vocabulary_);
    }
  }

  llama_memory_t memory() const { return llama_get_memory(context_.get()); }

  // The first step of a process touches the weights and sets up graphs: better now than in a request.
  void Warm(const llama_model* model) {
    const llama_vocab* vocab = llama_model_get_vocab(model);
    const Token token = std::max(0, std::max(llama_vocab_bos(vocab), llama_vocab_eos(vocab)));
    const Row row{0, 0, token, true};
    const std::atomic<bool> never = false;
    Decode({&row, 1}, never);
    Truncate(0, 0);
  }

  LlamaAdapters adapters_;
  const uint32_t threads_;
  uint32_t granted_ = threads_;
  ThreadGovernor governor_;
  StepWidth width_;
  std::vector<Row> filled_;
  bool fills_ = false;
  const uint32_t vocabulary_;
  const bool can_copy_;
  const bool windows_;  // two caches: what is written of a sequence has another form (sequence_state.h)
  uint32_t max_sequences_ = 0, max_running_ = 0, max_length_ = 0;
  ThreadPool pool_{threads_};
  Batch batch_;
  uint32_t ubatch_ = 0;                                  // rows, of what llama.cpp computes at once
  bool tiles_ = true;                                    // by the number of rows: kTileRows
  std::vector<std::vector<uint32_t>> parts_;             // of the last batch
  std::unordered_map<size_t, std::vector<float>> kept_;  // logits, of a batch of several parts
  std::vector<uint8_t> copy_;
  bool copies_streams_ = false;  // where the cache is not in this memory
  const std::atomic<bool>* abort_ = nullptr;
  llama_context_ptr context_;  // freed before the pool that it uses
};

}  // namespace

std::string Meta(const llama_model* model, const std::string& key) {
  char value[64];
  return llama_model_meta_val_str(model, key.c_str(), value, sizeof value) < 0 ? std::string() : value;
}

uint64_t KvBytesPerToken(const llama_model* model, const std::string& dtype) {
  const auto known = [](int32_t n) { return static_cast<uint64_t>(std::max(0, n)); };
  const KvWidth width =
      KvWidthOf([&](const std::string& key) { return Meta(model, key); }, known(llama_model_n_embd(model)),
                known(llama_model_n_head(model)), known(llama_model_n_head_kv(model)));
  const auto bytes = [&](uint64_t n) { return ggml_row_size(TypeOf(dtype), static_cast<int64_t>(n)); };
  return known(llama_model_n_layer(model)) * (bytes(width.key) + bytes(width.value));
}

bool Offloads(const Options& options) { return llama_supports_gpu_offload() && options.n_gpu_layers != 0; }

bool CanCut(const llama_model* model) {
  return !llama_model_is_recurrent(model) && !llama_model_is_hybrid(model);
}

std::unique_ptr<Decoder> MakeDecoder(llama_model* model, const LlamaAdapters& adapters,
                                     const Options& options, const KvPlan& plan, std::string* error) {
  auto decoder = std::make_unique<LlamaDecoder>(model, adapters, ThreadsOf(options));
  if (decoder->Open(model, options, plan)) return decoder;
  *error = "no context of " + std::to_string(plan.max_num_seqs) + " sequences of " +
           std::to_string(plan.max_model_len) +
           " tokens could be made: too little memory? (max_num_seqs, max_model_len, kv_cache_mib)";
  return nullptr;
}

}  // namespace cyllm::llama
