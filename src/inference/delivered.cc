#include "inference/delivered.h"

#include <algorithm>

namespace cyllm {

bool Delivered::finished() const {
  return std::all_of(choices_.begin(), choices_.end(), [](const Choice& c) { return c.finished; });
}

ResumeState Delivered::State(uint32_t epoch, std::string digest) const {
  ResumeState state;
  state.epoch = epoch;
  state.digest = std::move(digest);
  for (const Choice& choice : choices_) state.choices.push_back({choice.token_ids, choice.end});
  return state;
}

Status Delivered::Take(Batch& events, bool again) {
  size_t kept = 0;
  for (Event& event : events) {
    const Fit fit = Place(event, again);
    if (fit == Fit::kGap) {
      events.resize(kept);
      return MakeStatus(Code::kDataLoss, "what took over does not join on to what was there", "resume_gap");
    }
    if (fit == Fit::kOld) continue;
    anything_ |= IsDelta(event) || std::holds_alternative<Finished>(event);
    if (&events[kept] != &event) events[kept] = std::move(event);
    ++kept;
  }
  events.resize(kept);
  return Status::Ok();
}

Delivered::Fit Delivered::Place(Event& event, bool again) {
  if (auto* text = std::get_if<TextDelta>(&event))
    return PlaceDelta(*text, text->text, &Offsets::text_bytes, again);
  if (auto* reasoning = std::get_if<ReasoningDelta>(&event))
    return PlaceDelta(*reasoning, reasoning->text, &Offsets::reasoning_bytes, again);
  if (auto* call = std::get_if<ToolCallDelta>(&event)) {
    if (call->choice < choices_.size() && !call->name.empty() &&
        !choices_[call->choice].tools.insert(call->index).second) {
      call->id.clear();
      call->name.clear();
      call->chunk.clear();
    }
    return PlaceDelta(*call, call->arguments, &Offsets::tool_argument_bytes, again);
  }
  if (auto* finished = std::get_if<Finished>(&event)) {
    if (finished->choice >= choices_.size()) return Fit::kGap;
    Choice& choice = choices_[finished->choice];
    if (std::exchange(choice.finished, true)) return Fit::kOld;
    auto& counted = finished->usage.completion_tokens;
    if (again) counted = std::max(counted, static_cast<uint32_t>(choice.end.tokens));
    return Fit::kNew;
  }
  if (const auto* values = std::get_if<Values>(&event))
    return inputs_.insert(values->input).second ? Fit::kNew : Fit::kOld;
  return Fit::kNew;
}

template <class Delta>
Delivered::Fit Delivered::PlaceDelta(Delta& delta, std::string& content, uint64_t Offsets::* counter,
                                     bool again) {
  if (delta.choice >= choices_.size()) return Fit::kGap;
  Choice& choice = choices_[delta.choice];
  if (again) {
    delta.chunk.clear();
    if (choice.finished) return Fit::kOld;
    const uint64_t bytes_end = delta.end.*counter, tokens_end = delta.end.tokens;
    if (bytes_end < content.size() || tokens_end < delta.token_ids.size()) return Fit::kGap;
    const uint64_t bytes_begin = bytes_end - content.size();
    const uint64_t tokens_begin = tokens_end - delta.token_ids.size();
    if (bytes_begin > choice.end.*counter || tokens_begin > choice.end.tokens) return Fit::kGap;
    const size_t old_bytes = std::min<uint64_t>(choice.end.*counter - bytes_begin, content.size());
    const size_t old_tokens = std::min<uint64_t>(choice.end.tokens - tokens_begin, delta.token_ids.size());
    if constexpr (requires { delta.logprobs; }) {
      if (delta.logprobs.size() == delta.token_ids.size())
        delta.logprobs.erase(delta.logprobs.begin(),
                             delta.logprobs.begin() + static_cast<ptrdiff_t>(old_tokens));
    }
    content.erase(0, old_bytes);
    delta.token_ids.erase(delta.token_ids.begin(),
                          delta.token_ids.begin() + static_cast<ptrdiff_t>(old_tokens));
    bool head = false;
    if constexpr (requires { delta.name; }) head = !delta.name.empty();
    if (content.empty() && delta.token_ids.empty() && !head) return Fit::kOld;
  }
  Remember(choice, delta.token_ids, delta.end);
  return Fit::kNew;
}

void Delivered::Remember(Choice& choice, const std::vector<int32_t>& ids, const Offsets& end) {
  complete_ids_ = complete_ids_ && end.tokens == choice.end.tokens + ids.size();
  // Old peers and a worker's late events may say less than is known.
  choice.end.tokens = std::max(choice.end.tokens, end.tokens);
  choice.end.text_bytes = std::max(choice.end.text_bytes, end.text_bytes);
  choice.end.reasoning_bytes = std::max(choice.end.reasoning_bytes, end.reasoning_bytes);
  choice.end.tool_argument_bytes = std::max(choice.end.tool_argument_bytes, end.tool_argument_bytes);
  tokens_ += ids.size();
  if (tokens_ > max_tokens_) complete_ids_ = false;
  if (complete_ids_) {
    choice.token_ids.insert(choice.token_ids.end(), ids.begin(), ids.end());
  } else {
    choice.token_ids = {};
  }
}

}  // namespace cyllm
