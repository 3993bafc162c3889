// Where a text stands in a grammar.
#pragma once

#include <array>
#include <boost/unordered/unordered_flat_set.hpp>
#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "llama_cpp/grammar.h"

namespace cyllm::llama {

// A deterministic automaton that is made as it is walked: a state stands for all places of the grammar where
// the text so far can be, each with the rules that it is in; what was walked once costs one look-up per byte.
// Not thread-safe. States are numbers; they hold until Forget.
class GrammarMatcher {
 public:
  using State = int32_t;
  static constexpr State kDead = -1;

  // Which of the grammar's texts count: all, those of more than white space, or of these only what no other
  // one begins.
  enum class Texts : uint8_t { kAll, kNotBlank, kFirst };

  explicit GrammarMatcher(std::shared_ptr<const Grammar> grammar, Texts texts = Texts::kAll);

  State start() const { return start_; }
  State Next(State from, uint8_t byte);
  State Next(State from, std::string_view bytes);
  bool CanEnd(State state) const { return states_[static_cast<size_t>(state)].end; }
  bool MustEnd(State state) const { return states_[static_cast<size_t>(state)].places.empty(); }

  // It took more than kMaxWork since the last Forget, or a state has more than kMaxPlaces: from then on Next
  // gives kDead for what is not known yet, whatever the grammar says.
  bool exhausted() const { return exhausted_; }

  // Drops all states but `keep`, when there are many; gives its new number.
  State Forget(State keep);

 private:
  struct Place {
    uint32_t node;   // of kind kBytes
    uint32_t frame;  // what follows when its rule ends
    auto operator<=>(const Place&) const = default;
  };
  struct Frame {
    uint32_t node, frame;
  };
  struct StateData {
    std::vector<Place> places;
    bool end = false;
    bool blank = false;                            // no more than white space was read, and it matters
    Grammar::ByteSet bytes;                        // on which it goes on; with `next`
    std::unique_ptr<std::array<State, 256>> next;  // made when first left
  };
  static constexpr State kUnknown = -2;
  static constexpr uint32_t kNoFrame = 0;
  static constexpr size_t kMaxPlaces = 65'536, kMaxStates = 2'048;
  static constexpr uint64_t kMaxWork = 4'000'000;

  // Adds the places that are reached from a node without a byte.
  void Close(uint32_t node, uint32_t frame, StateData* out);
  uint32_t FrameOf(uint32_t node, uint32_t frame);
  State Intern(StateData data);

  const std::shared_ptr<const Grammar> grammar_;
  const Texts texts_;
  State start_ = kDead;
  std::vector<StateData> states_;
  std::unordered_multimap<uint64_t, State> by_hash_;
  std::vector<Frame> frames_;  // 0: none
  std::unordered_map<uint64_t, uint32_t> frame_ids_;
  uint64_t work_ = 0;
  bool exhausted_ = false;
  // Scratch of Close.
  std::vector<Place> todo_;
  boost::unordered_flat_set<uint64_t> seen_;
};

}  // namespace cyllm::llama
