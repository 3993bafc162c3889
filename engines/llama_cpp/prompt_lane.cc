#include "llama_cpp/prompt_lane.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "llama_cpp/chunk.h"

namespace cyllm::llama {

PromptLane::PromptLane(Decoder& decoder, Cores& cores, Now now, std::function<void()> on_result)
    : decoder_(decoder),
      cores_(cores),
      now_(std::move(now)),
      on_result_(std::move(on_result)),
      seats_(decoder.max_running()),
      cost_(ChunkBudget::Seconds(1), kMost) {}

void PromptLane::Submit(Prompt prompt) {
  {
    std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(prompt));
    cores_.Expect(Cores::kPrompts, true);
  }
  changed_.notify_one();
}

void PromptLane::Cancel(uint64_t ticket) {
  std::lock_guard lock(mutex_);
  std::erase_if(waiting_, [&](const Prompt& p) { return p.ticket == ticket; });
  std::erase_if(results_, [&](const Result& r) { return r.ticket == ticket; });
  for (uint32_t s = 0; s < seats_.size(); ++s) {
    Seat& seat = seats_[s];
    if (!seat.prompt || seat.prompt->ticket != ticket) continue;
    if (computing_ == s) {
      seat.cancelled = true;
      abort_ = true;
    } else {
      seat = Seat{};
    }
  }
}

std::vector<PromptLane::Result> PromptLane::Take() {
  std::lock_guard lock(mutex_);
  return std::exchange(results_, {});
}

void PromptLane::Fill() {
  for (Seat& seat : seats_) {
    if (waiting_.empty()) return;
    if (seat.prompt) continue;
    seat = Seat{std::move(waiting_.front())};
    waiting_.pop_front();
  }
}

std::optional<uint32_t> PromptLane::Choose() const {
  std::optional<uint32_t> best;
  const auto rank = [&](uint32_t s) {
    const Prompt& p = *seats_[s].prompt;
    const auto done = std::max(p.computed, seats_[s].computed);
    const auto left = cost_.Prefill(static_cast<uint32_t>(p.tokens.size()) - done);
    return std::tuple(p.priority, p.since + left, p.ticket);
  };
  for (uint32_t s = 0; s < seats_.size(); ++s)
    if (seats_[s].prompt && (!best || rank(s) < rank(*best))) best = s;
  return best;
}

// Its sequence holds the first tokens of the prompt.
bool PromptLane::Load(uint32_t seat, Prompt* prompt) {
  decoder_.Truncate(seat, 0);
  if (prompt->computed == 0) return true;
  if (!decoder_.Restore(seat, prompt->state)) return false;
  decoder_.Truncate(seat, prompt->computed);
  prompt->state = {};
  return true;
}

bool PromptLane::Compute(uint32_t seat, const Prompt& prompt, uint32_t computed, uint32_t tokens) {
  std::vector<Row> rows;
  for (uint32_t i = 0; i < tokens; ++i) {
    const uint32_t at = computed + i;
    rows.push_back({seat, at, prompt.tokens[at], at + 1 == prompt.tokens.size()});
  }
  const uint32_t threads = cores_.Enter(Cores::kPrompts);
  decoder_.SetThreads(threads);
  decoder_.SetAdapter(prompt.adapter);
  const TimePoint begin = now_();
  const DecodeResult result = decoder_.Decode(rows, abort_);
  const TimePoint end = now_();
  cores_.Leave(threads);
  ++steps_;
  if (result != DecodeResult::kOk) return false;
  std::lock_guard lock(mutex_);
  cost_.Report(0, tokens, end - begin);
  return true;
}

bool PromptLane::Step() {
  std::unique_lock lock(mutex_);
  if (stopping_) return false;
  Fill();
  const std::optional<uint32_t> chosen = Choose();
  if (!chosen) {
    cores_.Expect(Cores::kPrompts, false);
    return false;
  }
  Seat& seat = seats_[*chosen];
  Prompt& prompt = *seat.prompt;
  const bool begins = seat.computed == 0;
  const uint32_t computed = begins ? prompt.computed : seat.computed;
  computing_ = chosen;
  abort_ = false;
  lock.unlock();

  const auto left = static_cast<uint32_t>(prompt.tokens.size()) - computed;
  const uint32_t of_prompt = prompt.prompt - std::min(prompt.prompt, computed);
  // No more than a tile: others wait meanwhile.
  const uint32_t tokens = Chunk(of_prompt, left - of_prompt, kTileRows);
  Result result{prompt.ticket, true, {}, {}};
  result.ok = (!begins || Load(*chosen, &prompt)) && Compute(*chosen, prompt, computed, tokens);
  if (result.ok && tokens == left) {
    const auto logits = decoder_.Logits(tokens - 1);
    result.logits.assign(logits.begin(), logits.end());
    result.ok = decoder_.Save(*chosen, &result.state);
  }

  lock.lock();
  computing_.reset();
  seat.computed = computed + tokens;
  if (!seat.cancelled && result.ok && tokens < left) return true;
  const bool tell = !seat.cancelled;
  if (tell) results_.push_back(std::move(result));
  seat = Seat{};
  lock.unlock();
  if (tell) on_result_();
  return true;
}

void PromptLane::Run() {
  while (true) {
    if (!Step()) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    }
    std::lock_guard lock(mutex_);
    if (stopping_) return;
  }
}

void PromptLane::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    abort_ = true;
  }
  changed_.notify_all();
}

}  // namespace cyllm::llama
