#include "llama_cpp/constraint.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace cyllm::llama {

namespace {

// A trigger or a tag is looked for in that much of the text's end; patterns cannot be longer.
constexpr size_t kWindow = 8 << 10;

std::string_view WithoutLeadingSpace(std::string_view text) {
  const size_t at = text.find_first_not_of(" \t\r\n");
  return at == std::string_view::npos ? std::string_view() : text.substr(at);
}

}  // namespace

Constraint::Constraint(const ConstraintSpec& spec, const TokenIndex& index, const Vocabulary& vocabulary)
    : spec_(spec),
      index_(index),
      vocabulary_(vocabulary),
      matcher_(spec.grammar, spec.texts),
      state_(matcher_.start()) {
  if (!spec.prefix.empty()) state_ = matcher_.Next(state_, spec.prefix);
  if (state_ == GrammarMatcher::kDead) state_ = matcher_.start();
  phase_ = spec.thinking               ? Phase::kThinking
           : !spec.think_start.empty() ? Phase::kOpening
           : spec.lazy                 ? Phase::kFree
                                       : Phase::kGrammar;
}

std::string Constraint::Text(Token token) const {
  for (const auto& [special, text] : spec_.special)
    if (special == token) return text;
  return vocabulary_.Piece(token);
}

// Whether what was said and `text` is or may become the tag after which the model thinks.
bool Constraint::MayOpen(std::string_view text) const {
  const std::string all = std::string(WithoutLeadingSpace(text_ + std::string(text)));
  return all.starts_with(spec_.think_start) || std::string_view(spec_.think_start).starts_with(all);
}

bool Constraint::Allows(Token token) {
  const bool end = vocabulary_.IsEnd(token);
  if (phase_ == Phase::kFree) return true;
  if (phase_ == Phase::kThinking) return spec_.lazy || !end;
  if (end) return phase_ == Phase::kOpening ? spec_.lazy : matcher_.CanEnd(state_);
  const std::string text = Text(token);
  if (text.empty()) return false;
  if (phase_ == Phase::kOpening && (spec_.lazy || MayOpen(text))) return true;
  if (phase_ == Phase::kOpening && !Blank()) return false;
  const std::string_view rest =
      leading_ || phase_ == Phase::kOpening ? WithoutLeadingSpace(text) : std::string_view(text);
  return matcher_.Next(state_, rest) != GrammarMatcher::kDead;
}

void Constraint::Mask(std::span<float> logits) {
  const auto known = [&](Token t) { return t >= 0 && static_cast<size_t>(t) < logits.size(); };
  if (phase_ == Phase::kFree || phase_ == Phase::kThinking || (phase_ == Phase::kOpening && spec_.lazy)) {
    for (const Token t : vocabulary_.end_tokens())
      if (known(t) && !Allows(t)) logits[static_cast<size_t>(t)] = -std::numeric_limits<float>::infinity();
    return;
  }
  std::vector<std::pair<Token, float>> kept;  // the index knows nothing of these
  const auto keep = [&](Token t) {
    if (known(t) && Allows(t)) kept.emplace_back(t, logits[static_cast<size_t>(t)]);
  };
  for (const Token t : vocabulary_.end_tokens()) keep(t);
  for (const auto& [t, text] : spec_.special) keep(t);
  if (phase_ == Phase::kOpening)
    for (Token t = 0; known(t); ++t) keep(t);
  if (phase_ != Phase::kOpening || Blank()) index_.Mask(matcher_, state_, logits);
  for (const auto& [t, logit] : kept) logits[static_cast<size_t>(t)] = logit;
}

void Constraint::Accept(Token token) {
  if (!vocabulary_.IsEnd(token)) AcceptText(Text(token));
}

void Constraint::AcceptText(std::string_view text) {
  switch (phase_) {
    case Phase::kOpening:
      return Open(text);
    case Phase::kThinking:
      return Think(text);
    case Phase::kFree:
      return Watch(text);
    case Phase::kGrammar: {
      if (leading_) text = WithoutLeadingSpace(text);
      if (text.empty()) return;
      leading_ = false;
      const GrammarMatcher::State next = matcher_.Next(state_, text);
      if (next != GrammarMatcher::kDead) state_ = matcher_.Forget(next);
      return;
    }
  }
}

void Constraint::Open(std::string_view text) {
  text_ += text;
  if (MayOpen("")) {
    const std::string_view all = WithoutLeadingSpace(text_);
    if (!all.starts_with(spec_.think_start)) return;
    phase_ = Phase::kThinking;
    const std::string rest(all.substr(spec_.think_start.size()));
    text_.clear();
    return Think(rest);
  }
  const std::string all = std::exchange(text_, {});
  if (spec_.lazy) {
    phase_ = Phase::kFree;
    return Watch(all);
  }
  Begin(all);
}

void Constraint::Think(std::string_view text) {
  text_ += text;
  size_t after = std::string::npos;
  for (const std::string& tag : spec_.think_ends)
    if (const size_t at = text_.find(tag); at != std::string::npos) after = std::min(after, at + tag.size());
  if (after == std::string::npos) {
    if (text_.size() > kWindow) text_.erase(0, text_.size() - kWindow / 2);
    return;
  }
  const std::string rest = text_.substr(after);
  text_.clear();
  if (spec_.lazy) {
    phase_ = Phase::kFree;
    return Watch(rest);
  }
  Begin(rest);
}

void Constraint::Watch(std::string_view text) {
  text_ += text;
  if (const std::optional<size_t> at = Trigger()) {
    const GrammarMatcher::State next = matcher_.Next(state_, std::string_view(text_).substr(*at));
    if (next != GrammarMatcher::kDead) {
      state_ = matcher_.Forget(next);
      phase_ = Phase::kGrammar;
      text_.clear();
      return;
    }
    text_.erase(0, *at + 1);  // the grammar does not begin with this one
  }
  if (text_.size() > kWindow) text_.erase(0, text_.size() - kWindow / 2);
}

bool Constraint::Blank() const { return WithoutLeadingSpace(text_).empty(); }

void Constraint::Begin(std::string_view text) {
  phase_ = Phase::kGrammar;
  leading_ = true;
  AcceptText(text);
}

// Where in text_ the grammar begins.
std::optional<size_t> Constraint::Trigger() const {
  size_t first = std::string::npos;
  for (const std::string& word : spec_.trigger_words) first = std::min(first, text_.find(word));
  for (const std::regex& pattern : spec_.trigger_patterns) {
    std::smatch match;
    if (!std::regex_search(text_, match, pattern)) continue;
    first =
        std::min(first, static_cast<size_t>(match.position(match.size() > 1 && match[1].matched ? 1 : 0)));
  }
  if (first == std::string::npos) return std::nullopt;
  return first;
}

}  // namespace cyllm::llama
