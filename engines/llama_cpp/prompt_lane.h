// Prompts computed beside the sequences that decode, so that these need not wait.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "llama_cpp/chunk_budget.h"
#include "llama_cpp/cores.h"
#include "llama_cpp/decoder.h"
#include "llama_cpp/request.h"

namespace cyllm::llama {

// A decoder of its own, of the same model, computes whole prompts; what it computed is then taken over by the
// decoder that generates (Decoder::Save, Restore). In chunks, of the prompt that needs the least time, less
// the time it has waited; lower priority numbers first.
//
// Thread-safe, but that Step and Run are one thread's. The decoder and the cores outlive it.
class PromptLane {
 public:
  struct Prompt {
    uint64_t ticket;  // the caller's, used once
    std::vector<Token> tokens;
    uint32_t prompt;             // of these; the others were generated, and are computed again
    std::vector<uint8_t> state;  // of a sequence that begins with the first `computed` of them; may be empty
    uint32_t computed = 0;       // less than all
    int32_t priority = 0;
    TimePoint since{};
    uint32_t adapter = 0;
  };
  struct Result {
    uint64_t ticket;
    bool ok;
    std::vector<float> logits;   // of the last token
    std::vector<uint8_t> state;  // of all tokens
  };
  using Now = std::function<TimePoint()>;

  static constexpr uint32_t kMost = 2 * kTileRows - 1;  // tokens of a step

  // `on_result` is called by the computing thread when Take has something.
  PromptLane(Decoder& decoder, Cores& cores, Now now, std::function<void()> on_result);

  uint64_t steps() const { return steps_; }
  uint32_t seats() const { return static_cast<uint32_t>(seats_.size()); }  // prompts that are worked on

  // Those past seats() wait for a seat.
  void Submit(Prompt prompt);
  // No result will come; what is being computed of it is cut short.
  void Cancel(uint64_t ticket);
  std::vector<Result> Take();

  // Computes a chunk; false when there is nothing to compute.
  bool Step();
  // Steps until Stop.
  void Run();
  void Stop();

 private:
  struct Seat {
    std::optional<Prompt> prompt;
    uint32_t computed = 0;  // of it, here
    bool cancelled = false;
  };

  void Fill();
  std::optional<uint32_t> Choose() const;
  bool Load(uint32_t seat, Prompt* prompt);
  bool Compute(uint32_t seat, const Prompt& prompt, uint32_t computed, uint32_t tokens);

  Decoder& decoder_;
  Cores& cores_;
  const Now now_;
  const std::function<void()> on_result_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Seat> seats_;  // by sequence of the decoder
  std::deque<Prompt> waiting_;
  std::vector<Result> results_;
  std::optional<uint32_t> computing_;  // a seat: its prompt is in use without the lock
  std::atomic<bool> abort_ = false;
  std::atomic<uint64_t> steps_ = 0;
  bool stopping_ = false;
  ChunkBudget cost_;
};

}  // namespace cyllm::llama
