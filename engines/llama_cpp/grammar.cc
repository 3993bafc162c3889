#include "llama_cpp/grammar.h"

#include <algorithm>
#include <map>
#include <optional>
#include <unordered_map>

#include "llama_cpp/grammar_syntax.h"

namespace cyllm::llama {

namespace {

using Kind = Grammar::Kind;
using ByteRange = std::pair<uint8_t, uint8_t>;
using ByteSequence = std::vector<ByteRange>;  // a code point's bytes, each within a range

void Encode(uint32_t c, size_t length, uint8_t* out) {
  for (size_t i = length; i-- > 1; c >>= 6) out[i] = static_cast<uint8_t>(0x80 | (c & 0x3F));
  static constexpr uint8_t kLead[] = {0, 0x00, 0xC0, 0xE0, 0xF0};
  out[0] = static_cast<uint8_t>(kLead[length] | c);
}

// The code points of a range as sequences of byte ranges: cut where the number of bytes changes, and where
// the later bytes would not run over their whole range.
void Utf8Sequences(uint32_t low, uint32_t high, std::vector<ByteSequence>* out) {
  if (low > high) return;
  if (low <= 0xDFFF && high >= 0xD800) {  // surrogates are no characters
    if (low < 0xD800) Utf8Sequences(low, 0xD7FF, out);
    return Utf8Sequences(0xE000, high, out);
  }
  size_t length = 1;
  for (const uint32_t last : {0x7Fu, 0x7FFu, 0xFFFFu}) {
    if (low <= last && high > last) {
      Utf8Sequences(low, last, out);
      return Utf8Sequences(last + 1, high, out);
    }
    if (low > last) ++length;
  }
  for (size_t i = 1; i < length; ++i) {
    const uint32_t mask = (1u << (6 * i)) - 1;
    if ((low & ~mask) == (high & ~mask)) continue;
    if ((low & mask) != 0) {
      Utf8Sequences(low, low | mask, out);
      return Utf8Sequences((low | mask) + 1, high, out);
    }
    if ((high & mask) != mask) {
      Utf8Sequences(low, (high & ~mask) - 1, out);
      return Utf8Sequences(high & ~mask, high, out);
    }
  }
  uint8_t from[4], to[4];
  Encode(low, length, from);
  Encode(high, length, to);
  ByteSequence sequence;
  for (size_t i = 0; i < length; ++i) sequence.emplace_back(from[i], to[i]);
  out->push_back(std::move(sequence));
}

}  // namespace

class GrammarCompiler {
 public:
  GrammarCompiler(const GrammarSyntax& syntax, Grammar* out) : syntax_(syntax), out_(*out) {}

  bool Compile(std::string* error) {
    return_ = Add(Kind::kReturn);
    // A rule's start is a fork of one branch, so that rules can name each other before they are there.
    for (size_t i = 0; i < syntax_.rules.size(); ++i) rules_.push_back(Add(Kind::kFork, Branches({0}), 1));
    for (size_t i = 0; i < syntax_.rules.size() && !TooLarge(); ++i)
      out_.branches_[out_.nodes_[rules_[i]].a] = Emit(syntax_.rules[i].body, return_);
    if (TooLarge()) {
      *error = "it is too large";
      return false;
    }
    const auto root = std::find_if(syntax_.rules.begin(), syntax_.rules.end(),
                                   [](const auto& rule) { return rule.name == "root"; });
    if (root == syntax_.rules.end()) {
      *error = "there is no rule 'root'";
      return false;
    }
    out_.start_ = rules_[static_cast<size_t>(root - syntax_.rules.begin())];
    return Ends(error) && ReadsBeforeItCalls(error);
  }

 private:
  bool TooLarge() const { return out_.nodes_.size() > Grammar::kMaxNodes; }

  uint32_t Add(Kind kind, uint32_t a = 0, uint32_t b = 0) {
    out_.nodes_.push_back({kind, a, b});
    return static_cast<uint32_t>(out_.nodes_.size() - 1);
  }
  uint32_t Branches(std::vector<uint32_t> branches) {
    const auto at = static_cast<uint32_t>(out_.branches_.size());
    out_.branches_.insert(out_.branches_.end(), branches.begin(), branches.end());
    return at;
  }
  uint32_t Fork(const std::vector<uint32_t>& branches) {
    return branches.size() == 1
               ? branches[0]
               : Add(Kind::kFork, Branches(branches), static_cast<uint32_t>(branches.size()));
  }
  uint32_t Bytes(const Grammar::ByteSet& set, uint32_t next) {
    const auto [it, fresh] = sets_.try_emplace(set, static_cast<uint32_t>(out_.sets_.size()));
    if (fresh) out_.sets_.push_back(set);
    return Add(Kind::kBytes, it->second, next);
  }
  uint32_t Byte(ByteRange range, uint32_t next) {
    Grammar::ByteSet set;
    for (unsigned b = range.first; b <= range.second; ++b) set.set(b);
    return Bytes(set, next);
  }

  // The start of what matches `e` and then goes on at `next`.
  uint32_t Emit(const GrammarExpr& e, uint32_t next) {
    if (TooLarge()) return next;
    switch (e.kind) {
      case GrammarExpr::Kind::kLiteral:
        for (auto b = e.literal.rbegin(); b != e.literal.rend() && !TooLarge(); ++b)
          next = Byte({static_cast<uint8_t>(*b), static_cast<uint8_t>(*b)}, next);
        return next;
      case GrammarExpr::Kind::kClass:
        return EmitClass(e, next);
      case GrammarExpr::Kind::kRule:
        return Add(Kind::kCall, rules_[e.rule], next);
      case GrammarExpr::Kind::kSequence:
        for (auto child = e.children.rbegin(); child != e.children.rend(); ++child) next = Emit(*child, next);
        return next;
      case GrammarExpr::Kind::kChoice: {
        std::vector<uint32_t> branches;
        for (const GrammarExpr& child : e.children) branches.push_back(Emit(child, next));
        return Fork(branches);
      }
      case GrammarExpr::Kind::kRepeat:
        return EmitRepeat(e, next);
    }
    return next;
  }

  uint32_t EmitRepeat(const GrammarExpr& e, uint32_t next) {
    const GrammarExpr& body = e.children[0];
    if (e.max == GrammarExpr::kUnbounded) {
      const uint32_t loop = Add(Kind::kFork, Branches({next, next}), 2);
      const uint32_t branches = out_.nodes_[loop].a;
      const uint32_t again = Emit(body, loop);  // may move branches_
      out_.branches_[branches] = again;
      next = loop;
    } else {
      const uint32_t end = next;
      for (uint32_t i = e.min; i < e.max && !TooLarge(); ++i) next = Fork({Emit(body, next), end});
    }
    for (uint32_t i = 0; i < e.min && !TooLarge(); ++i) {
      const size_t before = out_.nodes_.size();
      next = Emit(body, next);
      if (out_.nodes_.size() == before) break;  // of nothing
    }
    return next;
  }

  // ASCII in one node; the rest, which takes many, once per class, to be called.
  uint32_t EmitClass(const GrammarExpr& e, uint32_t next) {
    Grammar::ByteSet ascii;
    std::vector<std::pair<uint32_t, uint32_t>> rest;
    for (const auto& [low, high] : e.ranges) {
      for (uint32_t c = low; c <= std::min<uint32_t>(high, 0x7F); ++c) ascii.set(c);
      if (high > 0x7F) rest.emplace_back(std::max<uint32_t>(low, 0x80), high);
    }
    std::vector<uint32_t> branches;
    if (ascii.any() || rest.empty()) branches.push_back(Bytes(ascii, next));
    if (!rest.empty()) {
      const auto [it, fresh] = classes_.try_emplace(rest, 0);
      if (fresh) {
        std::vector<ByteSequence> sequences;
        for (const auto& [low, high] : rest) Utf8Sequences(low, high, &sequences);
        std::vector<uint32_t> starts;
        for (const ByteSequence& sequence : sequences) {
          uint32_t at = return_;
          for (auto range = sequence.rbegin(); range != sequence.rend(); ++range) at = Byte(*range, at);
          starts.push_back(at);
        }
        it->second = starts.empty() ? Bytes({}, return_) : Fork(starts);
      }
      branches.push_back(Add(Kind::kCall, it->second, next));
    }
    return Fork(branches);
  }

  // Every node from which its rule's end can be reached; without reading a byte, if not `reading`.
  std::vector<bool> Ending(bool reading) const {
    const size_t n = out_.nodes_.size();
    std::vector<std::vector<uint32_t>> users(n);  // nodes whose answer may change with this one's
    for (uint32_t i = 0; i < n; ++i) {
      const Grammar::Node& node = out_.nodes_[i];
      if (node.kind == Kind::kBytes || node.kind == Kind::kCall) users[node.b].push_back(i);
      if (node.kind == Kind::kCall) users[node.a].push_back(i);
      if (node.kind == Kind::kFork)
        for (uint32_t k = 0; k < node.b; ++k) users[out_.branch(node, k)].push_back(i);
    }
    std::vector<bool> ending(n);
    std::vector<uint32_t> found;
    const auto find = [&](uint32_t i) {
      if (ending[i]) return;
      ending[i] = true;
      found.push_back(i);
    };
    for (uint32_t i = 0; i < n; ++i)
      if (out_.nodes_[i].kind == Kind::kReturn) find(i);
    while (!found.empty()) {
      const uint32_t at = found.back();
      found.pop_back();
      for (const uint32_t user : users[at]) {
        const Grammar::Node& node = out_.nodes_[user];
        if (node.kind == Kind::kBytes && (!reading || out_.sets_[node.a].none())) continue;
        if (node.kind != Kind::kCall || (ending[node.a] && ending[node.b])) find(user);
      }
    }
    return ending;
  }

  // Branches on which no text ever ends are cut, so that matching cannot walk into them.
  bool Ends(std::string* error) {
    const std::vector<bool> ending = Ending(true);
    if (!ending[out_.start_]) {
      *error = "no text can ever be complete";
      return false;
    }
    const uint32_t dead = Bytes({}, return_);
    for (Grammar::Node& node : out_.nodes_) {
      if (node.kind == Kind::kFork) {
        for (uint32_t k = 0; k < node.b; ++k)
          if (uint32_t& branch = out_.branches_[node.a + k]; branch < ending.size() && !ending[branch])
            branch = dead;
      } else if ((node.kind == Kind::kBytes || node.kind == Kind::kCall) && node.b < ending.size() &&
                 !ending[node.b]) {
        node.b = dead;
      }
    }
    return true;
  }

  // No rule may come to itself without a byte read: matching would never end. That is a call within a
  // strongly connected part (Tarjan's algorithm) of the edges that read nothing.
  bool ReadsBeforeItCalls(std::string* error) const {
    const std::vector<bool> empty = Ending(false);
    const auto edge = [&](uint32_t at, uint32_t i) -> std::optional<uint32_t> {
      const Grammar::Node& node = out_.nodes_[at];
      if (node.kind == Kind::kFork && i < node.b) return out_.branch(node, i);
      if (node.kind == Kind::kCall && i == 0) return node.a;
      if (node.kind == Kind::kCall && i == 1 && empty[node.a]) return node.b;
      return std::nullopt;
    };
    const size_t n = out_.nodes_.size();
    std::vector<uint32_t> order(n), low(n), part(n), open;  // 0: not seen, no part
    std::vector<std::pair<uint32_t, uint32_t>> path;        // node, next edge
    uint32_t seen = 0, parts = 0;
    for (uint32_t start = 0; start < n; ++start) {
      if (order[start] != 0) continue;
      path.emplace_back(start, 0);
      while (!path.empty()) {
        const auto [at, i] = path.back();
        if (i == 0) {
          order[at] = low[at] = ++seen;
          open.push_back(at);
        }
        if (const std::optional<uint32_t> to = edge(at, i)) {
          ++path.back().second;
          if (order[*to] == 0) {
            path.emplace_back(*to, 0);
          } else if (part[*to] == 0) {
            low[at] = std::min(low[at], order[*to]);
          }
          continue;
        }
        path.pop_back();
        if (!path.empty()) low[path.back().first] = std::min(low[path.back().first], low[at]);
        if (low[at] != order[at]) continue;
        ++parts;
        for (uint32_t member = n; member != at;) {
          member = open.back();
          open.pop_back();
          part[member] = parts;
        }
      }
    }
    for (uint32_t i = 0; i < n; ++i) {
      if (out_.nodes_[i].kind != Kind::kCall || part[i] != part[out_.nodes_[i].a]) continue;
      *error = "a rule begins with itself (left recursion)";
      return false;
    }
    return true;
  }

  const GrammarSyntax& syntax_;
  Grammar& out_;
  uint32_t return_ = 0;
  std::vector<uint32_t> rules_;  // where each starts
  std::unordered_map<Grammar::ByteSet, uint32_t> sets_;
  std::map<std::vector<std::pair<uint32_t, uint32_t>>, uint32_t> classes_;
};

std::shared_ptr<const Grammar> Grammar::Compile(std::string_view gbnf, std::string* error) {
  if (gbnf.size() > kMaxSource) {
    *error = "it is too large";
    return nullptr;
  }
  GrammarSyntax syntax;
  if (!ParseGrammar(gbnf, &syntax, error)) return nullptr;
  auto out = std::make_shared<Grammar>();
  return GrammarCompiler(syntax, out.get()).Compile(error) ? out : nullptr;
}

}  // namespace cyllm::llama
