#include "llama_cpp/prefix_names.h"

#include <algorithm>

namespace cyllm::llama {

void PrefixNames::Set(uint32_t sequence, std::span<const uint64_t> hashes, uint32_t tokens) {
  Cut(sequence, 0);
  named_[sequence] = {{hashes.begin(), hashes.end()}, tokens, hashes.size()};
  for (const uint64_t hash : hashes) {
    ++held_[hash];
    touched_.insert(hash);
  }
}

void PrefixNames::Cut(uint32_t sequence, uint32_t length) {
  Named& named = named_[sequence];
  if (length >= named.tokens) return;
  const size_t keep = std::min(named.hashes.size(), named.given * length / named.tokens);
  for (size_t i = keep; i < named.hashes.size(); ++i) Release(named.hashes[i]);
  named.hashes.resize(keep);
}

void PrefixNames::Copy(uint32_t from, uint32_t to) {
  const Named copy = named_[from];
  Set(to, copy.hashes, copy.tokens);
  named_[to].given = copy.given;
}

void PrefixNames::Release(uint64_t hash) {
  const auto it = held_.find(hash);
  if (--it->second == 0) held_.erase(it);
  touched_.insert(hash);
}

PrefixNames::Changes PrefixNames::Take() {
  Changes out;
  for (const uint64_t hash : touched_) {
    if (held_.contains(hash)) {
      if (told_.insert(hash).second) out.added.push_back(hash);
    } else if (told_.erase(hash) > 0) {
      out.removed.push_back(hash);
    }
  }
  touched_.clear();
  return out;
}

}  // namespace cyllm::llama
