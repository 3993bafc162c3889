#include "coordinator/routing/prefix_index.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <new>
#include <type_traits>
#include <utility>

namespace cyllm {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr Millis kTick{2'000};

// A holder: 16 bits of slot (never 0), 16 bits of time.
constexpr uint32_t Holder(uint16_t slot, uint16_t tick) { return uint32_t{slot} << 16 | tick; }
constexpr uint16_t SlotOf(uint32_t holder) { return static_cast<uint16_t>(holder >> 16); }
constexpr uint16_t TimeOf(uint32_t holder) { return static_cast<uint16_t>(holder); }

constexpr uint32_t Half(uint64_t word, int which) { return static_cast<uint32_t>(word >> (32 * which)); }
constexpr uint64_t WithHalf(uint64_t word, int which, uint32_t half) {
  const int shift = 32 * which;
  return (word & ~(uint64_t{0xffffffff} << shift)) | uint64_t{half} << shift;
}

constexpr size_t kMatches = 32;  // that are told; more would not change who is picked

// Of kMatches slots at most.
class SlotSet {
 public:
  bool Insert(uint16_t slot) {  // false: it is there
    size_t at = (slot * 40'503u >> 4) % kPlaces;
    while (slots_[at] != 0) {
      if (slots_[at] == slot) return false;
      at = (at + 1) % kPlaces;
    }
    slots_[at] = slot;
    return true;
  }

 private:
  static constexpr size_t kPlaces = 4 * kMatches;
  std::array<uint16_t, kPlaces> slots_{};
};

}  // namespace

PrefixIndex::PrefixIndex(Options options)
    : expiry_ticks_(static_cast<uint16_t>(std::clamp<int64_t>(options.expiry / kTick, 1, 0x7fff))),
      sets_(std::bit_floor(std::max(options.max_bytes / sizeof(Set), size_t{1}))),
      table_(Reserve(sets_ * sizeof(Set))) {}

PrefixIndex::~PrefixIndex() { munmap(table_, bytes()); }

// Zeros are empty sets. The kernel gives a page when it is first written: a process that routes nothing by
// prefixes does not pay for the table.
PrefixIndex::Set* PrefixIndex::Reserve(size_t bytes) {
  static_assert(std::is_trivially_destructible_v<Set> && std::atomic<uint64_t>::is_always_lock_free);
  void* const pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  return static_cast<Set*>(pages);
}

PrefixIndex::Tick PrefixIndex::TickOf(TimePoint now) const {
  return static_cast<Tick>(now.time_since_epoch() / kTick);
}

bool PrefixIndex::Fresh(uint32_t holder, Tick now) const {
  return holder != 0 && static_cast<Tick>(now - TimeOf(holder)) <= expiry_ticks_;
}

PrefixIndex::Entry* PrefixIndex::Find(uint64_t hash) const {
  Set& set = SetOf(hash);
  for (size_t way = 0; way < kWays; ++way)
    if (set.hashes[way].load(kRelaxed) == hash) return &set.entries[way];
  return nullptr;
}

PrefixIndex::Entry& PrefixIndex::FindOrTake(uint64_t hash) {
  Set& set = SetOf(hash);
  size_t oldest = 0;
  uint64_t least = ~uint64_t{0};
  for (size_t way = 0; way < kWays; ++way) {
    const uint64_t there = set.hashes[way].load(kRelaxed);
    if (there == hash) return set.entries[way];
    const uint64_t used = set.entries[way].used.load(kRelaxed);  // 0: never
    if (used >= least) continue;
    least = used;
    oldest = way;
  }
  Entry& entry = set.entries[oldest];
  for (auto& word : entry.holders) word.store(0, kRelaxed);
  set.hashes[oldest].store(hash, kRelaxed);
  return entry;
}

// From its deepest block back: a hash is of all of the prompt up to there, so who holds a block holds those
// before it, also where so many do that their entries have no place for it.
std::vector<PrefixMatch> PrefixIndex::Match(std::span<const uint64_t> blocks, TimePoint now) const {
  const Tick tick = TickOf(now);
  std::vector<const Entry*> entries;
  entries.reserve(blocks.size());
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i + 4 < blocks.size()) __builtin_prefetch(&SetOf(blocks[i + 4]));
    const Entry* entry = Find(blocks[i]);
    if (!entry) break;
    __builtin_prefetch(entry);
    entries.push_back(entry);
  }
  std::vector<PrefixMatch> matches;
  SlotSet seen;
  std::array<uint64_t, kHolders / 2> deeper{};  // most blocks of a prompt were sent to the same workers
  for (size_t depth = entries.size(); depth > 0 && matches.size() < kMatches; --depth) {
    for (size_t k = 0; k < deeper.size(); ++k) {
      const uint64_t both = entries[depth - 1]->holders[k].load(kRelaxed);
      if (both == std::exchange(deeper[k], both)) continue;
      for (const int which : {0, 1}) {
        const uint32_t holder = Half(both, which);
        if (!Fresh(holder, tick) || matches.size() == kMatches || !seen.Insert(SlotOf(holder))) continue;
        matches.push_back({SlotOf(holder), static_cast<uint32_t>(depth)});
      }
    }
  }
  return matches;
}

void PrefixIndex::Sent(std::span<const uint64_t> blocks, uint32_t slot, TimePoint now) {
  const Tick tick = TickOf(now);
  const uint16_t narrow = Short(slot);
  const uint64_t number = sent_.fetch_add(1, kRelaxed) + 1;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i + 4 < blocks.size()) __builtin_prefetch(&SetOf(blocks[i + 4]), 1);
    Entry& entry = FindOrTake(blocks[i]);
    entry.used.store(number, kRelaxed);
    // Its own place, else an empty one, else the oldest.
    constexpr uint32_t kOwn = 0x20000, kEmpty = 0x10000;
    std::atomic<uint64_t>* place = &entry.holders[0];
    int half = 0;
    uint32_t best = 0;
    for (auto& word : entry.holders) {
      const uint64_t both = word.load(kRelaxed);
      for (const int which : {0, 1}) {
        const uint32_t holder = Half(both, which);
        const uint32_t merit = holder == 0                ? kEmpty
                               : SlotOf(holder) == narrow ? kOwn
                                                          : static_cast<Tick>(tick - TimeOf(holder));
        if (merit <= best) continue;
        best = merit;
        place = &word;
        half = which;
      }
      if (best == kOwn) break;
    }
    place->store(WithHalf(place->load(kRelaxed), half, Holder(narrow, tick)), kRelaxed);
  }
}

void PrefixIndex::Dropped(std::span<const uint64_t> blocks, uint32_t slot) {
  const uint16_t narrow = Short(slot);
  for (const uint64_t block : blocks) {
    Entry* entry = Find(block);
    if (!entry) continue;
    for (auto& word : entry->holders) {
      const uint64_t both = word.load(kRelaxed);
      for (const int which : {0, 1})
        if (SlotOf(Half(both, which)) == narrow) word.store(WithHalf(both, which, 0), kRelaxed);
    }
  }
}

}  // namespace cyllm
