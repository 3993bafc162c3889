#include "llama_cpp/prefix_tree.h"

#include <algorithm>
#include <utility>

namespace cyllm::llama {

// The tokens on the way to a node and on its edge are a prefix that `through` sequences hold.
struct PrefixTree::Node {
  Node* parent = nullptr;
  std::vector<Token> edge;
  uint32_t depth = 0;  // tokens at the edge's end
  uint32_t through = 0;
  std::vector<uint32_t> ends;  // sequences that end here
  std::vector<std::unique_ptr<Node>> children;

  bool root() const { return !parent; }
  uint32_t start() const { return depth - static_cast<uint32_t>(edge.size()); }
  Node* Child(Token token) const {
    for (const auto& child : children)
      if (child->edge.front() == token) return child.get();
    return nullptr;
  }
  std::unique_ptr<Node>& Slot() {
    return *std::find_if(parent->children.begin(), parent->children.end(),
                         [&](const auto& child) { return child.get() == this; });
  }
  size_t Common(std::span<const Token> tokens) const {
    const auto at = std::mismatch(edge.begin(), edge.end(), tokens.begin(), tokens.end()).first;
    return static_cast<size_t>(at - edge.begin());
  }
};

PrefixTree::PrefixTree(uint32_t sequences) {
  roots_.push_back(std::make_unique<Node>());
  ends_.assign(sequences, roots_.front().get());
}

PrefixTree::~PrefixTree() {
  // Without recursion: a path may have as many nodes as tokens.
  std::vector<std::unique_ptr<Node>> left = std::exchange(roots_, {});
  while (!left.empty()) {
    std::unique_ptr<Node> node = std::move(left.back());
    left.pop_back();
    for (auto& child : node->children) left.push_back(std::move(child));
  }
}

void PrefixTree::Begin(uint32_t sequence, uint32_t adapter) {
  while (roots_.size() <= adapter) roots_.push_back(std::make_unique<Node>());
  ends_[sequence] = roots_[adapter].get();
}

PrefixTree::Match PrefixTree::Find(uint32_t adapter, std::span<const Token> tokens) const {
  Match match;
  if (adapter >= roots_.size()) return match;
  const Node* node = roots_[adapter].get();
  while (match.length < tokens.size()) {
    const auto rest = tokens.subspan(match.length);
    const Node* child = node->Child(rest.front());
    if (!child) break;
    node = child;
    const size_t common = child->Common(rest);
    match.length += static_cast<uint32_t>(common);
    if (common < child->edge.size()) break;
  }
  if (match.length == 0) return match;
  std::vector<const Node*> below = {node};
  while (!below.empty()) {
    const Node* n = below.back();
    below.pop_back();
    match.sequences.insert(match.sequences.end(), n->ends.begin(), n->ends.end());
    for (const auto& child : n->children) below.push_back(child.get());
  }
  std::sort(match.sequences.begin(), match.sequences.end());
  return match;
}

uint32_t PrefixTree::length(uint32_t sequence) const { return ends_[sequence]->depth; }

uint32_t PrefixTree::own(uint32_t sequence) const {
  const Node* node = ends_[sequence];
  while (node->through == 1) node = node->parent;
  return length(sequence) - node->depth;
}

PrefixTree::Node* PrefixTree::Add(Node* parent, std::span<const Token> edge) {
  auto node = std::make_unique<Node>();
  node->parent = parent;
  node->edge.assign(edge.begin(), edge.end());
  node->depth = parent->depth + static_cast<uint32_t>(edge.size());
  ++nodes_;
  return parent->children.emplace_back(std::move(node)).get();
}

// Returns a new node for the first `at` tokens of the edge; `node` keeps the rest, and what is below.
PrefixTree::Node* PrefixTree::Split(Node* node, size_t at) {
  auto upper = std::make_unique<Node>();
  Node* const out = upper.get();
  const auto middle = node->edge.begin() + static_cast<std::ptrdiff_t>(at);
  upper->parent = node->parent;
  upper->edge.assign(node->edge.begin(), middle);
  upper->depth = node->start() + static_cast<uint32_t>(at);
  upper->through = node->through;
  std::unique_ptr<Node>& slot = node->Slot();
  upper->children.push_back(std::move(slot));
  slot = std::move(upper);
  node->parent = out;
  node->edge.erase(node->edge.begin(), middle);
  ++nodes_;
  return out;
}

// Where nothing ends and nothing branches off there need be no node.
void PrefixTree::Merge(Node* node) {
  if (node->root() || !node->ends.empty() || node->children.size() != 1) return;
  std::unique_ptr<Node> child = std::move(node->children.front());
  child->edge.insert(child->edge.begin(), node->edge.begin(), node->edge.end());
  child->parent = node->parent;
  node->Slot() = std::move(child);
  --nodes_;
}

void PrefixTree::Erase(Node* node) {
  auto& siblings = node->parent->children;
  siblings.erase(siblings.begin() + (&node->Slot() - siblings.data()));
  --nodes_;
}

void PrefixTree::Leave(uint32_t sequence) { std::erase(ends_[sequence]->ends, sequence); }

void PrefixTree::Append(uint32_t sequence, std::span<const Token> tokens) {
  if (tokens.empty()) return;
  Node* const from = ends_[sequence];
  Leave(sequence);
  Node* node = from;
  if (node->through == 1) {
    node->edge.insert(node->edge.end(), tokens.begin(), tokens.end());
    node->depth += static_cast<uint32_t>(tokens.size());
    tokens = {};
  }
  while (!tokens.empty()) {
    Node* next = node->Child(tokens.front());
    if (next) {
      const size_t common = next->Common(tokens);
      if (common < next->edge.size()) next = Split(next, common);
    } else {
      next = Add(node, tokens);
    }
    tokens = tokens.subspan(next->edge.size());
    ++next->through;
    node = next;
  }
  node->ends.push_back(sequence);
  ends_[sequence] = node;
  if (node != from) Merge(from);
}

void PrefixTree::Cut(uint32_t sequence, uint32_t length) {
  Node* node = ends_[sequence];
  if (length >= node->depth) return;
  Leave(sequence);
  while (!node->root() && node->start() >= length) {
    Node* const parent = node->parent;
    if (--node->through == 0) {
      Erase(node);
    } else {
      Merge(node);
    }
    node = parent;
  }
  if (node->depth > length) {
    Node* const upper = Split(node, length - node->start());
    if (--node->through == 0) {
      Erase(node);
    } else {
      Merge(node);
    }
    node = upper;
  }
  if (!node->root()) node->ends.push_back(sequence);
  ends_[sequence] = node;
}

void PrefixTree::Copy(uint32_t from, uint32_t to) {
  Node* const end = ends_[from];
  for (Node* node = end; !node->root(); node = node->parent) ++node->through;
  if (!end->root()) end->ends.push_back(to);
  ends_[to] = end;
}

}  // namespace cyllm::llama
