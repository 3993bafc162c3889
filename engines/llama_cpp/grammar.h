// Grammars in llama.cpp's GBNF, compiled for matching bytes.
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cyllm::llama {

// A network of states: a rule is a part of it that ends in kReturn, a reference to a rule is a call.
// Character classes are UTF-8 byte sequences, so that a token may end within a code point. Immutable,
// thread-safe.
class Grammar {
 public:
  enum class Kind : uint8_t { kBytes, kCall, kFork, kReturn };
  struct Node {
    Kind kind;
    uint32_t a = 0;  // kBytes: index of its set. kCall: start of the rule. kFork: first of its branches
    uint32_t b = 0;  // kBytes, kCall: what follows. kFork: number of branches
  };
  using ByteSet = std::bitset<256>;

  // Null and `error` when `gbnf` is no grammar with a rule `root`, when it can match without an end only or
  // calls itself before it has read anything, or when it is larger than kMaxNodes: what a hostile grammar can
  // cost is bounded.
  static std::shared_ptr<const Grammar> Compile(std::string_view gbnf, std::string* error);
  static constexpr size_t kMaxNodes = 1'000'000;
  static constexpr size_t kMaxSource = 8u << 20;

  uint32_t start() const { return start_; }
  const Node& node(uint32_t i) const { return nodes_[i]; }
  uint32_t branch(const Node& fork, uint32_t i) const { return branches_[fork.a + i]; }
  const ByteSet& set(const Node& bytes) const { return sets_[bytes.a]; }

 private:
  friend class GrammarCompiler;
  std::vector<Node> nodes_;
  std::vector<uint32_t> branches_;
  std::vector<ByteSet> sets_;
  uint32_t start_ = 0;
};

}  // namespace cyllm::llama
