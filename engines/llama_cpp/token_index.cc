#include "llama_cpp/token_index.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace cyllm::llama {

TokenIndex::TokenIndex(const Vocabulary& vocabulary) {
  std::vector<std::pair<std::string, Token>> tokens;
  for (Token t = 0; t < static_cast<Token>(vocabulary.size()); ++t) {
    std::string piece = vocabulary.IsEnd(t) ? std::string() : vocabulary.Piece(t);
    if (piece.empty()) {
      silent_.push_back(t);
    } else {
      tokens.emplace_back(std::move(piece), t);
    }
  }
  std::sort(tokens.begin(), tokens.end());
  const std::string* before = nullptr;
  for (const auto& [piece, token] : tokens) {
    uint32_t common = 0;
    while (before && common < std::min(piece.size(), before->size()) && piece[common] == (*before)[common])
      ++common;
    entries_.push_back(
        {token, static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(piece.size()), common});
    bytes_ += piece;
    before = &piece;
  }
}

void TokenIndex::Mask(GrammarMatcher& matcher, GrammarMatcher::State state, std::span<float> logits) const {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  const auto reject = [&](Token t) {
    if (static_cast<size_t>(t) < logits.size()) logits[static_cast<size_t>(t)] = kNever;
  };
  for (const Token t : silent_) reject(t);
  std::vector<GrammarMatcher::State> path{state};  // after each byte of the token before that led somewhere
  for (const Entry& entry : entries_) {
    if (entry.common >= path.size()) {  // begins with the byte at which the one before failed
      reject(entry.token);
      continue;
    }
    path.resize(entry.common + 1);
    for (uint32_t i = entry.common; i < entry.length; ++i) {
      const auto next = matcher.Next(path.back(), static_cast<uint8_t>(bytes_[entry.begin + i]));
      if (next == GrammarMatcher::kDead) break;
      path.push_back(next);
    }
    if (path.size() != entry.length + 1) reject(entry.token);
  }
}

}  // namespace cyllm::llama
