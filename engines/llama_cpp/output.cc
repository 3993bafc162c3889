#include "llama_cpp/output.h"

#include <utility>

namespace cyllm::llama {

Output::Output(const Vocabulary& vocabulary, std::vector<std::string> stop, bool scores, std::string echoed)
    : vocabulary_(vocabulary), scores_(scores), stop_(std::move(stop)) {
  pending_.text = std::move(echoed);
}

void Output::Push(const Sample& sample, bool match) {
  const std::string bytes = vocabulary_.Piece(sample.token);
  pending_.tokens.push_back(sample.token);
  if (scores_) {
    TokenScore score{sample, bytes, {}};
    for (const ScoredToken& t : sample.top) score.top_bytes.push_back(vocabulary_.Piece(t.token));
    pending_.scores.push_back(std::move(score));
  }
  const std::string text = detokenizer_.Push(bytes);
  pending_.text += match ? stop_.Push(text) : stop_.Flush() + text;
}

void Output::Finish() {
  finished_ = true;
  if (stop_match()) return;
  pending_.text += stop_.Push(detokenizer_.Flush());
  if (!stop_match()) pending_.text += stop_.Flush();
}

std::optional<Delta> Output::Take() {
  if (pending_.text.empty() && !(finished_ && !pending_.tokens.empty())) return std::nullopt;
  cyllm_offsets end = pending_.end;
  end.tokens += pending_.tokens.size();
  end.text_bytes += pending_.text.size();
  Delta out = std::exchange(pending_, {});
  out.end = pending_.end = end;
  return out;
}

}  // namespace cyllm::llama
