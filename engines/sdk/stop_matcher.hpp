// Stop strings in a text that arrives in pieces.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cyllm::sdk {

// Not thread-safe. One per choice.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
    std::erase(stops_, std::string());
    for (const std::string& stop : stops_) longest_ = std::max(longest_, stop.size());
  }

  // Takes a piece and returns what can no longer be part of a stop string. After a match (see matched()),
  // what came before it; the rest is gone. The match that ends first wins, of those the longest.
  std::string Push(std::string_view piece) {
    if (matched_) return {};
    if (stops_.empty()) return std::string(piece);
    const size_t fresh = held_.size();
    held_ += piece;
    size_t at = std::string::npos, end = std::string::npos;
    const std::string* match = nullptr;
    for (const std::string& stop : stops_) {
      const size_t from = fresh >= stop.size() ? fresh - stop.size() + 1 : 0;
      const size_t found = held_.find(stop, from);
      if (found == std::string::npos) continue;
      const size_t stop_end = found + stop.size();
      if (stop_end < end || (stop_end == end && found < at)) {
        at = found;
        end = stop_end;
        match = &stop;
      }
    }
    if (match) {
      matched_ = *match;
      std::string out = held_.substr(0, at);
      held_.clear();
      return out;
    }
    const size_t keep = HeldBack();
    std::string out = held_.substr(0, held_.size() - keep);
    held_.erase(0, held_.size() - keep);
    return out;
  }

  // At the end of the text without a match: what was held back.
  std::string Flush() { return std::exchange(held_, {}); }

  size_t held() const { return held_.size(); }

  const std::optional<std::string>& matched() const { return matched_; }

 private:
  // Length of the longest suffix of held_ that is a proper prefix of a stop string.
  size_t HeldBack() const {
    for (size_t n = std::min(held_.size(), longest_ - 1); n > 0; --n) {
      const std::string_view suffix(held_.data() + held_.size() - n, n);
      for (const std::string& stop : stops_) {
        if (stop.size() > n && std::string_view(stop).starts_with(suffix)) return n;
      }
    }
    return 0;
  }

  std::vector<std::string> stops_;
  size_t longest_ = 0;
  std::string held_;
  std::optional<std::string> matched_;
};

}  // namespace cyllm::sdk
