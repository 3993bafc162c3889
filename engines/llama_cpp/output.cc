#include "llama_cpp/output.h"

#include <algorithm>
#include <utility>

namespace cyllm::llama {

using Kind = MessagePart::Kind;

Output::Output(const Vocabulary& vocabulary, const OutputOptions& options)
    : vocabulary_(vocabulary),
      scores_(options.scores),
      special_(options.special),
      parser_(options.parser ? options.parser() : nullptr),
      stop_(options.stop) {
  if (!options.echoed.empty()) queue_.push_back({{Kind::kText, options.echoed, 0, false, {}}, {}, {}, {}});
}

void Output::Push(const Sample& sample, bool match) {
  const auto special = special_.find(sample.token);
  const std::string bytes = special != special_.end() ? special->second : vocabulary_.Piece(sample.token);
  waiting_.tokens.push_back(sample.token);
  if (scores_) {
    TokenScore score{sample, bytes, {}};
    for (const ScoredToken& t : sample.top) score.top_bytes.push_back(vocabulary_.Piece(t.token));
    waiting_.scores.push_back(std::move(score));
  }
  const std::string text = detokenizer_.Push(bytes);
  std::vector<MessagePart> parts;
  if (!parser_) {
    parts.push_back({Kind::kText, text, 0, false, {}});
  } else if (!text.empty()) {
    parser_->Push(text, &parts);
  }
  Add(std::move(parts), match);
}

void Output::Finish() {
  finished_ = true;
  if (stop_match()) return;
  std::vector<MessagePart> parts;
  std::string rest = detokenizer_.Flush();
  if (parser_) {
    if (!rest.empty()) parser_->Push(rest, &parts);
    parser_->Finish(&parts);
  } else {
    parts.push_back({Kind::kText, std::move(rest), 0, false, {}});
  }
  Add(std::move(parts), true);
}

void Output::Add(std::vector<MessagePart> parts, bool match) {
  bool queued = false;
  for (MessagePart& part : parts) {
    if (stop_match()) break;
    if (part.kind == Kind::kText) {
      part.text = match ? stop_.Push(part.text) : stop_.Flush() + part.text;
    } else {
      queued |= Queue({Kind::kText, stop_.Flush(), 0, false, {}});  // a stop string does not reach over it
    }
    queued |= Queue(std::move(part));
  }
  if (finished_ && !stop_match()) queued |= Queue({Kind::kText, stop_.Flush(), 0, false, {}});
  if (queued) Attach(&queue_.back());
}

void Output::Attach(Delta* delta) {
  if (delta->part.kind == Kind::kReasoning)
    reasoning_tokens_ += static_cast<uint32_t>(waiting_.tokens.size());
  delta->tokens.insert(delta->tokens.end(), waiting_.tokens.begin(), waiting_.tokens.end());
  delta->scores.insert(delta->scores.end(), waiting_.scores.begin(), waiting_.scores.end());
  waiting_ = {};
}

bool Output::Queue(MessagePart part) {
  uint64_t& owed = BytesOf(&owed_, part.kind);
  const size_t cut = std::min<uint64_t>(owed, part.text.size());
  owed -= cut;
  part.text.erase(0, cut);
  if (part.text.empty() && !part.opens) return false;
  called_ = called_ || part.kind == Kind::kToolCall;
  const bool joins = !queue_.empty() && !part.opens && queue_.back().part.kind == part.kind &&
                     queue_.back().part.call == part.call;
  if (joins) {
    queue_.back().part.text += part.text;
  } else {
    queue_.push_back({std::move(part), {}, {}, {}});
  }
  return true;
}

std::optional<Delta> Output::Take() {
  if (empty()) return std::nullopt;
  if (queue_.empty()) queue_.emplace_back();
  Delta out = std::move(queue_.front());
  queue_.pop_front();
  if (queue_.empty()) Attach(&out);
  end_.tokens += out.tokens.size();
  BytesOf(&end_, out.part.kind) += out.part.text.size();
  out.end = end_;
  return out;
}

bool Output::Skip(const cyllm_offsets& delivered) {
  owed_ = delivered;
  if (!queue_.empty()) Attach(&queue_.back());  // counts them
  for (Delta& delta : std::exchange(queue_, {})) {
    delta.part.opens = false;  // came with one of the tokens
    Queue(std::move(delta.part));
  }
  waiting_ = {};
  end_ = delivered;
  // What the end of the text released, and the end itself did not arrive.
  constexpr uint64_t kTags = 64;
  const uint64_t held = stop_.held() + (detokenizer_.holds() ? 3 : 0) + (parser_ ? kTags : 0);
  return owed_.text_bytes + owed_.reasoning_bytes + owed_.tool_argument_bytes <= (finished_ ? 0 : held);
}

uint64_t& Output::BytesOf(cyllm_offsets* offsets, Kind kind) const {
  return kind == Kind::kText        ? offsets->text_bytes
         : kind == Kind::kReasoning ? offsets->reasoning_bytes
                                    : offsets->tool_argument_bytes;
}

}  // namespace cyllm::llama
