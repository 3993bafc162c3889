// The names under which others know cached prefixes: hashes of a prompt's blocks, given with the request.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace cyllm::llama {

// Bookkeeping only; not thread-safe. Where in the tokens a block ends is not known: blocks count as equally
// long.
class PrefixNames {
 public:
  struct Changes {
    std::vector<uint64_t> added, removed;
  };

  explicit PrefixNames(uint32_t sequences) : named_(sequences) {}

  // `sequence` holds a prompt of `tokens` tokens, whose blocks are called so.
  void Set(uint32_t sequence, std::span<const uint64_t> hashes, uint32_t tokens);
  void Cut(uint32_t sequence, uint32_t length);
  void Copy(uint32_t from, uint32_t to);

  // What has changed since the last call, on the whole: a name that came and went is not in it.
  Changes Take();

 private:
  struct Named {
    std::vector<uint64_t> hashes;
    uint32_t tokens = 0;  // of all hashes that were given
    size_t given = 0;
  };
  void Release(uint64_t hash);

  std::vector<Named> named_;  // by sequence
  std::unordered_map<uint64_t, uint32_t> held_;
  std::unordered_set<uint64_t> told_, touched_;
};

}  // namespace cyllm::llama
