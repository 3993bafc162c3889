#include "llama_cpp/prefix_cache.h"

#include <algorithm>
#include <limits>
#include <set>
#include <tuple>
#include <utility>

namespace cyllm::llama {

PrefixCache::PrefixCache(Decoder& decoder, uint32_t max_running, bool reuse)
    : decoder_(decoder),
      max_running_(std::min(max_running, decoder.max_sequences())),
      reuse_(reuse && decoder.can_copy()),
      tree_(decoder.max_sequences()),
      names_(decoder.max_sequences()),
      states_(decoder.max_sequences()) {}

uint32_t PrefixCache::Held(uint32_t adapter, std::span<const Token> tokens) const {
  const uint32_t length = reuse_ ? tree_.Find(adapter, tokens).length : 0;
  return length < kWorthCopying ? 0 : length;
}

std::optional<PrefixCache::Place> PrefixCache::Donor(uint32_t adapter, std::span<const Token> tokens) const {
  return DonorOf(reuse_ ? tree_.Find(adapter, tokens) : PrefixTree::Match{});
}

// The shortest is copied soonest.
std::optional<PrefixCache::Place> PrefixCache::DonorOf(const PrefixTree::Match& match) const {
  if (match.length < kWorthCopying) return std::nullopt;
  const uint32_t donor =
      *std::min_element(match.sequences.begin(), match.sequences.end(),
                        [&](uint32_t a, uint32_t b) { return tree_.length(a) < tree_.length(b); });
  return Place{donor, match.length};
}

uint32_t PrefixCache::AcquireEmpty(uint32_t adapter) {
  const uint32_t to = Room(adapter, {});
  Rescue(to, 0, std::nullopt);
  Forget(to, 0);
  tree_.Begin(to, adapter);
  Run(to, adapter);
  return to;
}

PrefixCache::Place PrefixCache::Acquire(uint32_t adapter, std::span<const Token> tokens) {
  const PrefixTree::Match match = reuse_ ? tree_.Find(adapter, tokens) : PrefixTree::Match{};
  const uint32_t to = Room(adapter, match);
  const bool here = std::binary_search(match.sequences.begin(), match.sequences.end(), to);
  std::optional<uint32_t> donor;
  if (const auto other = here ? std::nullopt : DonorOf(match)) donor = other->sequence;
  const uint32_t reused = here || donor ? match.length : 0;
  Rescue(to, here ? reused : 0, donor);
  Forget(to, here ? reused : 0);
  if (donor) {
    CopyTo(*donor, to);
    Cut(to, reused);
    states_[*donor].used = ++uses_;
  }
  if (reused == 0) tree_.Begin(to, adapter);
  Run(to, adapter);
  return {to, reused};
}

// The lowest and the highest that run with this adapter.
std::optional<std::pair<uint32_t, uint32_t>> PrefixCache::Span(uint32_t adapter) const {
  std::optional<std::pair<uint32_t, uint32_t>> out;
  for (uint32_t s = 0; s < states_.size(); ++s) {
    if (!states_[s].running || states_[s].adapter != adapter) continue;
    out = {out ? out->first : s, s};
  }
  return out;
}

// Gaps between those of its adapter that run, else their neighbours; else what is furthest from all that run.
std::vector<uint32_t> PrefixCache::Candidates(uint32_t adapter) const {
  std::vector<uint32_t> out;
  const auto size = static_cast<uint32_t>(states_.size());
  const auto add = [&](uint32_t s) {
    if (!states_[s].running) out.push_back(s);
  };
  if (const auto span = Span(adapter)) {
    const auto [low, high] = *span;
    for (uint32_t s = low; s <= high; ++s) add(s);
    if (!out.empty()) return out;
    if (low > 0) add(low - 1);
    if (high + 1 < size) add(high + 1);
    if (!out.empty()) return out;
  }
  uint32_t furthest = 0;
  for (uint32_t s = 0; s < size; ++s) {
    uint32_t distance = size;
    for (uint32_t other = 0; other < size; ++other)
      if (states_[other].running) distance = std::min(distance, s < other ? other - s : s - other);
    if (distance < furthest) continue;
    if (std::exchange(furthest, distance) < distance) out.clear();
    add(s);
  }
  return out;
}

// The sequence to take. Rather one that holds the prefix, then what is least missed.
uint32_t PrefixCache::Room(uint32_t adapter, const PrefixTree::Match& match) const {
  uint32_t best = 0;
  std::tuple<bool, bool, uint64_t> least{true, true, std::numeric_limits<uint64_t>::max()};
  for (const uint32_t s : Candidates(adapter)) {
    const bool holds = std::binary_search(match.sequences.begin(), match.sequences.end(), s);
    const uint32_t lost = holds ? std::min(tree_.own(s), tree_.length(s) - match.length) : tree_.own(s);
    const std::tuple key{!holds, lost > 0, states_[s].used};
    if (key < least) {
      least = key;
      best = s;
    }
  }
  return best;
}

// What `sequence` holds past `keep` and no other does goes to a place that is less missed, if there is one.
void PrefixCache::Rescue(uint32_t sequence, uint32_t keep, std::optional<uint32_t> donor) {
  if (!reuse_ || std::min(tree_.own(sequence), tree_.length(sequence) - keep) < kWorthCopying) return;
  std::optional<uint32_t> to;
  std::pair<bool, uint64_t> least{true, states_[sequence].used};
  for (uint32_t s = 0; s < states_.size(); ++s) {
    if (states_[s].running || s == sequence || s == donor) continue;
    const std::pair key{tree_.own(s) > 0, states_[s].used};
    if (key < least) {
      least = key;
      to = s;
    }
  }
  if (!to) return;
  Forget(*to, 0);
  CopyTo(sequence, *to);
}

void PrefixCache::Forget(uint32_t sequence, uint32_t keep) {
  evicted_ += std::min(tree_.own(sequence), tree_.length(sequence) - keep);
  Cut(sequence, keep);
}

void PrefixCache::CopyTo(uint32_t from, uint32_t to) {
  decoder_.Copy(from, to);
  tree_.Copy(from, to);
  names_.Copy(from, to);
  states_[to].used = states_[from].used;
}

void PrefixCache::Run(uint32_t sequence, uint32_t adapter) {
  states_[sequence] = {true, adapter, ++uses_};
  ++running_;
}

void PrefixCache::Append(uint32_t sequence, std::span<const Token> tokens) {
  if (reuse_) tree_.Append(sequence, tokens);
}

void PrefixCache::Name(uint32_t sequence, std::span<const uint64_t> hashes, uint32_t prompt) {
  if (reuse_) names_.Set(sequence, hashes, prompt);
}

void PrefixCache::Cut(uint32_t sequence, uint32_t length) {
  decoder_.Truncate(sequence, length);
  tree_.Cut(sequence, length);
  names_.Cut(sequence, length);
}

void PrefixCache::Release(uint32_t sequence) {
  states_[sequence] = {false, 0, ++uses_};
  --running_;
  if (!reuse_) Cut(sequence, 0);
}

// Free, between two of one adapter that run; and that adapter.
std::optional<std::pair<uint32_t, uint32_t>> PrefixCache::Gap() const {
  std::set<uint32_t> seen;
  for (const State& state : states_) {
    if (!state.running || !seen.insert(state.adapter).second) continue;
    const auto [low, high] = *Span(state.adapter);
    for (uint32_t s = low; s < high; ++s)
      if (!states_[s].running) return std::pair(s, state.adapter);
  }
  return std::nullopt;
}

std::vector<PrefixCache::Move> PrefixCache::Compact() {
  std::vector<Move> moves;
  while (decoder_.can_copy()) {
    const auto gap = Gap();
    if (!gap) break;
    const auto [to, adapter] = *gap;
    const auto [low, high] = *Span(adapter);
    const uint32_t from = tree_.length(low) < tree_.length(high) ? low : high;
    Rescue(to, 0, from);
    Forget(to, 0);
    CopyTo(from, to);
    Cut(from, 0);
    states_[to] = std::exchange(states_[from], State{});
    moves.push_back({from, to});
  }
  return moves;
}

uint32_t PrefixCache::cached() const {
  uint32_t out = 0;
  for (uint32_t s = 0; s < states_.size(); ++s)
    if (!states_[s].running) out += tree_.length(s);
  return out;
}

}  // namespace cyllm::llama
