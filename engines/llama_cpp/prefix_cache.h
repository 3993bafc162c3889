// The sequences of a decoder: which of them a choice gets, and what it finds there already computed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "llama_cpp/decoder.h"
#include "llama_cpp/prefix_names.h"
#include "llama_cpp/prefix_tree.h"

namespace cyllm::llama {

// Not thread-safe. A sequence runs, or it keeps what it computed for reuse, or it is empty. A new choice
// takes over the longest prefix that any sequence of its adapter holds, a running one too: in place where
// that sequence no longer runs, else copied. Running sequences of an adapter are kept without gaps between
// them: llama.cpp computes neighbours together (decoder.h). What is in the way of that moves, or is
// forgotten: first what another sequence holds too, then what was used longest ago.
class PrefixCache {
 public:
  struct Place {
    uint32_t sequence;
    uint32_t reused;  // tokens at the start that need not be computed
  };
  struct Move {
    uint32_t from, to;
  };

  // At most `max_running` of the decoder's sequences run at a time. Without `reuse`, or with a model whose
  // memory cannot be cut, every choice starts with an empty sequence.
  PrefixCache(Decoder& decoder, uint32_t max_running, bool reuse);

  uint32_t running() const { return running_; }
  bool reuse() const { return reuse_; }
  // Tokens at the start of `tokens` that need not be computed with `adapter`: 0 rather than few.
  uint32_t Held(uint32_t adapter, std::span<const Token> tokens) const;

  // The sequence whose copy saves most of `tokens`, and how many of them; nullopt when that is not worth it.
  std::optional<Place> Donor(uint32_t adapter, std::span<const Token> tokens) const;

  // A sequence that then runs; fewer than max_running did.
  Place Acquire(uint32_t adapter, std::span<const Token> tokens);
  // One that then runs and is empty.
  uint32_t AcquireEmpty(uint32_t adapter);
  // `sequence` holds these too, from now on, computed with its adapter.
  void Append(uint32_t sequence, std::span<const Token> tokens);
  // Its prompt's blocks are called so.
  void Name(uint32_t sequence, std::span<const uint64_t> hashes, uint32_t prompt);
  // What the decoder holds past `length` is not to be used.
  void Cut(uint32_t sequence, uint32_t length);
  // Runs no longer; what it holds may be reused.
  void Release(uint32_t sequence);

  bool gap() const { return Gap().has_value(); }  // between running sequences of an adapter
  // Closes gaps between them. In this order, `from` has become `to`.
  std::vector<Move> Compact();

  uint64_t evicted() const { return evicted_; }  // tokens that were forgotten
  uint32_t cached() const;                       // tokens in sequences that do not run
  PrefixNames& names() { return names_; }

  // Shorter prefixes are computed again rather than copied or waited for.
  static constexpr uint32_t kWorthCopying = 32;

 private:
  struct State {
    bool running = false;
    uint32_t adapter = 0;  // of one that runs
    uint64_t used = 0;
  };

  std::optional<std::pair<uint32_t, uint32_t>> Span(uint32_t adapter) const;
  std::vector<uint32_t> Candidates(uint32_t adapter) const;
  std::optional<std::pair<uint32_t, uint32_t>> Gap() const;
  std::optional<Place> DonorOf(const PrefixTree::Match& match) const;
  uint32_t Room(uint32_t adapter, const PrefixTree::Match& match) const;
  void Rescue(uint32_t sequence, uint32_t keep, std::optional<uint32_t> donor);
  void Forget(uint32_t sequence, uint32_t keep);
  void CopyTo(uint32_t from, uint32_t to);
  void Run(uint32_t sequence, uint32_t adapter);

  Decoder& decoder_;
  const uint32_t max_running_;
  const bool reuse_;
  PrefixTree tree_;
  PrefixNames names_;
  std::vector<State> states_;  // by sequence
  uint32_t running_ = 0;
  uint64_t uses_ = 0;
  uint64_t evicted_ = 0;
};

}  // namespace cyllm::llama
