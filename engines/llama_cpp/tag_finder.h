// Tags in a text that arrives in pieces.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cyllm::llama {

// Not thread-safe.
class TagFinder {
 public:
  explicit TagFinder(std::vector<std::string> tags) : tags_(std::move(tags)) {
    std::erase(tags_, std::string());
  }

  // Takes a piece and returns the text before the first tag, as far as it cannot be part of one. When the tag
  // is there, `after` is what follows it.
  std::string Push(std::string_view piece, std::optional<std::string>* after) {
    held_ += piece;
    size_t at = std::string::npos, end = 0;
    for (const std::string& tag : tags_) {
      const size_t found = held_.find(tag);
      if (found >= at) continue;
      at = found;
      end = found + tag.size();
    }
    std::string out;
    if (at != std::string::npos) {
      out = held_.substr(0, at);
      *after = held_.substr(end);
      held_.clear();
      return out;
    }
    const size_t keep = HeldBack();
    out = held_.substr(0, held_.size() - keep);
    held_.erase(0, held_.size() - keep);
    return out;
  }

  // What was held back, when no more comes.
  std::string Flush() { return std::exchange(held_, {}); }

 private:
  size_t HeldBack() const {
    size_t longest = 0;
    for (const std::string& tag : tags_)
      for (size_t n = std::min(held_.size(), tag.size() - 1); n > longest; --n)
        if (std::string_view(held_).ends_with(std::string_view(tag).substr(0, n))) longest = n;
    return longest;
  }

  std::vector<std::string> tags_;
  std::string held_;
};

}  // namespace cyllm::llama
