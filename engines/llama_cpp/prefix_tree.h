// Which sequences hold which tokens: a radix tree in which common prefixes are found once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "llama_cpp/decoder.h"

namespace cyllm::llama {

// A prefix is tokens and the adapter that they were computed with: each adapter has a tree of its own.
//
// Bookkeeping only. Not thread-safe. Appending to a sequence that shares its end with nobody, which is what
// decoding does, takes constant time; finding a prefix takes as long as the prefix.
class PrefixTree {
 public:
  struct Match {
    uint32_t length = 0;
    std::vector<uint32_t> sequences;  // that hold these tokens, ascending; empty when length is 0
  };

  explicit PrefixTree(uint32_t sequences);
  ~PrefixTree();

  // The longest prefix of `tokens` that some sequence holds at its start.
  Match Find(uint32_t adapter, std::span<const Token> tokens) const;

  // What is appended to `sequence`, which holds nothing, is computed with `adapter`. At first that is 0.
  void Begin(uint32_t sequence, uint32_t adapter);

  uint32_t length(uint32_t sequence) const;
  // Tokens at its end that no other sequence holds.
  uint32_t own(uint32_t sequence) const;

  void Append(uint32_t sequence, std::span<const Token> tokens);
  void Cut(uint32_t sequence, uint32_t length);
  void Copy(uint32_t from, uint32_t to);  // `to` holds nothing before

  size_t nodes() const { return nodes_; }

 private:
  struct Node;

  Node* Add(Node* parent, std::span<const Token> edge);
  Node* Split(Node* node, size_t at);
  void Merge(Node* node);
  void Erase(Node* node);
  void Leave(uint32_t sequence);

  std::vector<std::unique_ptr<Node>> roots_;  // by adapter; as many as were begun, one at least
  std::vector<Node*> ends_;                   // by sequence
  size_t nodes_ = 0;                          // but for the roots
};

}  // namespace cyllm::llama
