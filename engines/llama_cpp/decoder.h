// What the scheduler needs of a model's compute: the seam under which llama.cpp stands, and a scripted fake
// in tests.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace cyllm::llama {

using Token = int32_t;

// One token of one sequence in a step. Sequences whose numbers follow on one another are computed together.
struct Row {
  uint32_t sequence;  // 0 .. max_sequences() - 1, ascending within a batch
  uint32_t position;
  Token token;
  bool logits;  // wanted after the step
};

// So many rows of one sequence in a batch, or more, are computed in tiles on a CPU, where the KV cache is not
// quantised: another arithmetic of llama.cpp's attention than that of fewer rows, and further from it than
// the last digits. Within each of the two a row's result does not depend on how many there are (README.md,
// Equal texts).
constexpr uint32_t kTileRows = 64;

enum class DecodeResult {
  kOk,
  kAborted,  // `abort` was seen: what the step's sequences hold is not known
  kFailed,   // the same; retrying would not help
};

// Owned and called by one thread.
class Decoder {
 public:
  virtual ~Decoder() = default;

  virtual uint32_t max_sequences() const = 0;
  virtual uint32_t max_running() const = 0;  // of them, in one batch; others may keep what they hold
  virtual uint32_t max_length() const = 0;   // tokens in one sequence
  virtual uint32_t vocabulary() const = 0;
  virtual uint32_t threads() const = 0;  // compute threads, at most
  virtual bool can_copy() const = 0;     // whether Copy and a Truncate in the middle work with this model

  // The model's adapters, by name. Adapter number n is the one at n - 1; 0 is the model without any.
  virtual const std::vector<std::string>& adapters() const = 0;
  // What the next batches are computed with; at first 0. What a sequence holds is computed with one adapter
  // from its first token to its last. Another one than that of the batch before costs some milliseconds.
  virtual void SetAdapter(uint32_t adapter) = 0;

  // How many compute threads the next batches get.
  virtual void SetThreads(uint32_t threads) = 0;

  // Computes a batch, of the prefill chunk and kTileRows - 1 rows at most; blocks for as long as that takes.
  // Positions of a sequence follow on what it holds. A sequence's rows are computed in tiles or not by their
  // number alone, whatever else is in the batch. Gives up soon after `abort` becomes true.
  virtual DecodeResult Decode(std::span<const Row> rows, const std::atomic<bool>& abort) = 0;

  // Of the last batch's row `i`, which wanted them. Valid until the next call; the caller may change them.
  virtual std::span<float> Logits(size_t i) = 0;

  // Forgets what the sequence holds from `position` on.
  virtual void Truncate(uint32_t sequence, uint32_t position) = 0;

  // `to`, until now empty, then holds what `from` holds; the whole of it, Truncate takes away the rest.
  virtual void Copy(uint32_t from, uint32_t to) = 0;

  // What the sequence holds, for Restore of a decoder of the same model. False when that cannot be had.
  virtual bool Save(uint32_t sequence, std::vector<uint8_t>* state) = 0;
  // The sequence, until now empty, then holds that; still empty when it fails. `state` may be written to.
  virtual bool Restore(uint32_t sequence, std::span<uint8_t> state) = 0;
};

}  // namespace cyllm::llama
