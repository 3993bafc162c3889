#include "llama_cpp/grammar_matcher.h"

#include <algorithm>
#include <utility>

namespace cyllm::llama {

namespace {

constexpr uint64_t kScansPerWork = 16;  // looking at a place is that much cheaper than reaching one

bool IsSpace(uint8_t byte) { return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n'; }

uint64_t Key(uint32_t a, uint32_t b) { return uint64_t{a} << 32 | b; }

}  // namespace

GrammarMatcher::GrammarMatcher(std::shared_ptr<const Grammar> grammar, Texts texts)
    : grammar_(std::move(grammar)), texts_(texts) {
  frames_.push_back({0, 0});
  StateData data;
  Close(grammar_->start(), kNoFrame, &data);
  data.blank = texts_ != Texts::kAll;
  data.end = data.end && !data.blank;
  start_ = Intern(std::move(data));
}

GrammarMatcher::State GrammarMatcher::Next(State from, uint8_t byte) {
  if (from == kDead) return kDead;
  StateData& at = states_[static_cast<size_t>(from)];
  if (!at.next) {
    at.next = std::make_unique<std::array<State, 256>>();
    at.next->fill(kUnknown);
    for (const Place& place : at.places) at.bytes |= grammar_->set(grammar_->node(place.node));
    work_ += at.places.size() / kScansPerWork;
  }
  if (!at.bytes.test(byte)) return kDead;
  if (const State known = (*at.next)[byte]; known != kUnknown) return known;
  if (exhausted_) return kDead;
  StateData data;
  seen_.clear();
  for (const Place& place : at.places) {
    const Grammar::Node& node = grammar_->node(place.node);
    if (grammar_->set(node).test(byte)) Close(node.b, place.frame, &data);
  }
  work_ += at.places.size() / kScansPerWork;
  exhausted_ = exhausted_ || work_ > kMaxWork;
  if (exhausted_) return kDead;
  data.blank = states_[static_cast<size_t>(from)].blank && IsSpace(byte);
  data.end = data.end && !data.blank;
  if (texts_ == Texts::kFirst && data.end) data.places.clear();
  const State to = data.places.empty() && !data.end ? kDead : Intern(std::move(data));
  (*states_[static_cast<size_t>(from)].next)[byte] = to;
  return to;
}

GrammarMatcher::State GrammarMatcher::Next(State from, std::string_view bytes) {
  for (const char b : bytes) {
    from = Next(from, static_cast<uint8_t>(b));
    if (from == kDead) return kDead;
  }
  return from;
}

void GrammarMatcher::Close(uint32_t node, uint32_t frame, StateData* out) {
  todo_.push_back({node, frame});
  while (!todo_.empty()) {
    const Place at = todo_.back();
    todo_.pop_back();
    if (!seen_.insert(Key(at.node, at.frame)).second) continue;
    if (++work_ > kMaxWork || out->places.size() > kMaxPlaces) {
      exhausted_ = true;
      todo_.clear();
      return;
    }
    const Grammar::Node& n = grammar_->node(at.node);
    switch (n.kind) {
      case Grammar::Kind::kBytes:
        out->places.push_back(at);
        break;
      case Grammar::Kind::kFork:
        for (uint32_t i = 0; i < n.b; ++i) todo_.push_back({grammar_->branch(n, i), at.frame});
        break;
      case Grammar::Kind::kCall:
        // What is called last needs not be returned to: depth grows with nesting only.
        todo_.push_back(
            {n.a, grammar_->node(n.b).kind == Grammar::Kind::kReturn ? at.frame : FrameOf(n.b, at.frame)});
        break;
      case Grammar::Kind::kReturn:
        if (at.frame == kNoFrame) {
          out->end = true;
        } else {
          todo_.push_back({frames_[at.frame].node, frames_[at.frame].frame});
        }
        break;
    }
  }
}

uint32_t GrammarMatcher::FrameOf(uint32_t node, uint32_t frame) {
  const auto [it, fresh] = frame_ids_.try_emplace(Key(node, frame), static_cast<uint32_t>(frames_.size()));
  if (fresh) frames_.push_back({node, frame});
  return it->second;
}

GrammarMatcher::State GrammarMatcher::Intern(StateData data) {
  std::sort(data.places.begin(), data.places.end());
  uint64_t hash = data.end;
  for (const Place& p : data.places)
    hash = (hash ^ Key(p.node, p.frame)) * 0x9E3779B97F4A7C15u + (hash >> 29);
  const auto [first, last] = by_hash_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    const StateData& known = states_[static_cast<size_t>(it->second)];
    if (known.end == data.end && known.blank == data.blank && known.places == data.places) return it->second;
  }
  states_.push_back(std::move(data));
  const auto state = static_cast<State>(states_.size() - 1);
  by_hash_.emplace(hash, state);
  return state;
}

GrammarMatcher::State GrammarMatcher::Forget(State keep) {
  work_ = 0;
  if (keep == kDead || states_.size() <= kMaxStates) return keep;
  StateData kept;
  kept.end = CanEnd(keep);
  kept.blank = states_[static_cast<size_t>(keep)].blank;
  const std::vector<Place> places = std::move(states_[static_cast<size_t>(keep)].places);
  const std::vector<Frame> frames = std::exchange(frames_, {{0, 0}});
  states_.clear();
  by_hash_.clear();
  frame_ids_.clear();
  std::unordered_map<uint32_t, uint32_t> moved{{kNoFrame, kNoFrame}};
  for (const Place& place : places) {
    std::vector<uint32_t> path;  // from the innermost frame that is new
    for (uint32_t f = place.frame; !moved.contains(f); f = frames[f].frame) path.push_back(f);
    for (auto f = path.rbegin(); f != path.rend(); ++f)
      moved[*f] = FrameOf(frames[*f].node, moved.at(frames[*f].frame));
    kept.places.push_back({place.node, moved.at(place.frame)});
  }
  start_ = kDead;
  return Intern(std::move(kept));
}

}  // namespace cyllm::llama
