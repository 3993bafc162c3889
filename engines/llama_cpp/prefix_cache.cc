#include "llama_cpp/prefix_cache.h"

#include <algorithm>
#include <limits>
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

uint32_t PrefixCache::Held(std::span<const Token> tokens) const {
  const uint32_t length = reuse_ ? tree_.Find(tokens).length : 0;
  return length < kWorthCopying ? 0 : length;
}

std::optional<PrefixCache::Place> PrefixCache::Donor(std::span<const Token> tokens) const {
  return DonorOf(reuse_ ? tree_.Find(tokens) : PrefixTree::Match{});
}

// The shortest is copied soonest.
std::optional<PrefixCache::Place> PrefixCache::DonorOf(const PrefixTree::Match& match) const {
  if (match.length < kWorthCopying) return std::nullopt;
  const uint32_t donor =
      *std::min_element(match.sequences.begin(), match.sequences.end(),
                        [&](uint32_t a, uint32_t b) { return tree_.length(a) < tree_.length(b); });
  return Place{donor, match.length};
}

uint32_t PrefixCache::AcquireEmpty() {
  const uint32_t to = Room({});
  Rescue(to, 0, std::nullopt);
  Forget(to, 0);
  Run(to);
  return to;
}

PrefixCache::Place PrefixCache::Acquire(std::span<const Token> tokens) {
  const PrefixTree::Match match = reuse_ ? tree_.Find(tokens) : PrefixTree::Match{};
  const uint32_t to = Room(match);
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
  Run(to);
  return {to, reused};
}

// The lowest and the highest that run.
std::pair<uint32_t, uint32_t> PrefixCache::Span() const {
  uint32_t low = 0, high = static_cast<uint32_t>(states_.size()) - 1;
  while (!states_[low].running) ++low;
  while (!states_[high].running) --high;
  return {low, high};
}

// Gaps between those that run, else their neighbours; any when none runs.
std::vector<uint32_t> PrefixCache::Candidates() const {
  std::vector<uint32_t> out;
  const auto size = static_cast<uint32_t>(states_.size());
  const auto [low, high] = running_ > 0 ? Span() : std::pair(0u, size - 1);
  for (uint32_t s = low; s <= high; ++s)
    if (!states_[s].running) out.push_back(s);
  if (!out.empty()) return out;
  if (low > 0) out.push_back(low - 1);
  if (high + 1 < size) out.push_back(high + 1);
  return out;
}

// The sequence to take. Rather one that holds the prefix, then what is least missed.
uint32_t PrefixCache::Room(const PrefixTree::Match& match) const {
  uint32_t best = 0;
  std::tuple<bool, bool, uint64_t> least{true, true, std::numeric_limits<uint64_t>::max()};
  for (const uint32_t s : Candidates()) {
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

void PrefixCache::Run(uint32_t sequence) {
  states_[sequence] = {true, ++uses_};
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
  states_[sequence] = {false, ++uses_};
  --running_;
  if (!reuse_) Cut(sequence, 0);
}

bool PrefixCache::gap() const {
  if (running_ == 0) return false;
  const auto [low, high] = Span();
  return high - low + 1 > running_;
}

std::vector<PrefixCache::Move> PrefixCache::Compact() {
  std::vector<Move> moves;
  while (decoder_.can_copy() && gap()) {
    const auto [low, high] = Span();
    uint32_t to = low;
    while (states_[to].running) ++to;
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
