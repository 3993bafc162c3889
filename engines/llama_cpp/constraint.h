// What a choice's tokens may be, beyond what the request's sampling says.
#pragma once

#include <memory>
#include <optional>
#include <regex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "llama_cpp/grammar_matcher.h"
#include "llama_cpp/token_index.h"
#include "llama_cpp/vocabulary.h"

namespace cyllm::llama {

// Of a request; shared by its choices.
struct ConstraintSpec {
  std::shared_ptr<const Grammar> grammar;
  std::string prefix;  // what the prompt's end already holds of it
  GrammarMatcher::Texts texts = GrammarMatcher::Texts::kAll;

  // Free text at first, if `lazy`: the grammar begins with the first of these that the text holds. A
  // pattern's first group, if it has one, is where.
  bool lazy = false;
  std::vector<std::string> trigger_words;
  std::vector<std::regex> trigger_patterns;

  // A model that may think first: what it thinks is free.
  std::string think_start;
  std::vector<std::string> think_ends;
  bool thinking = false;  // from the start

  std::vector<std::pair<Token, std::string>> special;  // tokens whose text counts, though it is not shown
};

// Not thread-safe; one per choice. What the choice produced is told to it by Accept, in order. `spec`,
// `index` and `vocabulary` outlive it.
class Constraint {
 public:
  Constraint(const ConstraintSpec& spec, const TokenIndex& index, const Vocabulary& vocabulary);

  bool Allows(Token token);
  // Gives every token that Allows refuses the logit -infinity.
  void Mask(std::span<float> logits);
  void Accept(Token token);

  // The text is complete and nothing can follow.
  bool complete() const { return phase_ == Phase::kGrammar && matcher_.MustEnd(state_); }

 private:
  enum class Phase { kOpening, kThinking, kFree, kGrammar };

  std::string Text(Token token) const;
  bool MayOpen(std::string_view text) const;
  bool Blank() const;  // nothing but white space so far
  void AcceptText(std::string_view text);
  void Open(std::string_view text);
  void Think(std::string_view text);
  void Watch(std::string_view text);
  void Begin(std::string_view text);
  std::optional<size_t> Trigger() const;

  const ConstraintSpec& spec_;
  const TokenIndex& index_;
  const Vocabulary& vocabulary_;
  GrammarMatcher matcher_;
  GrammarMatcher::State state_;
  Phase phase_;
  bool leading_ = false;  // white space before the grammar's first byte is let through
  std::string text_;      // kOpening: all; kThinking, kFree: the end of it
};

}  // namespace cyllm::llama
