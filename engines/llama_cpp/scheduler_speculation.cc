// Guessed tokens: which go into a step, and which of them were right.
#include <algorithm>

#include "llama_cpp/scheduler.h"
#include "llama_cpp/scheduler_job.h"

namespace cyllm::llama {

// Several sequences with several tokens each would be computed one after the other (decoder.h).
void Scheduler::PlanGuess(Slot* slot) {
  if (!options_.speculation || !decoder_.can_copy() || slot->dear()) return;
  Choice& choice = *slot->choice;
  const uint32_t left = choice.request().max_tokens - choice.generated();
  const Guess guess = Lookup(choice.tokens(), std::min(left - 1, GuessLength::kMost));
  slot->guess.assign(guess.tokens.begin(), guess.tokens.end());
  slot->match = guess.match;
  uint32_t n = guess_length_.Best(choice.acceptance().Rate(guess.match, acceptance_),
                                  static_cast<uint32_t>(guess.tokens.size()));
  for (; n > 0 && slot->job->Reserve(); --n) ++slot->planned;
}

// Takes tokens from the step's rows as long as each is the one that was guessed, and forgets the rows behind
// it.
void Scheduler::Verify(uint32_t sequence, TimePoint now, Events* events) {
  const Slot slot = *running_[sequence];
  Choice& choice = *slot.choice;
  const uint32_t guessed = slot.planned - 1;
  const size_t first = slot.row - guessed;
  uint32_t right = 0;
  bool holds = true;
  while (true) {
    cache_.Append(sequence, choice.tokens().last(1));
    choice.Computed(1);
    if (!Next(sequence, decoder_.Logits(first + right), now, events)) return;
    ++stats_.generated;
    if (choice.finished()) break;
    holds = right >= slot.guess.size() || choice.tokens().back() == slot.guess[right];
    if (!holds || right == guessed) break;
    ++right;
    Emit(slot, events);
  }
  if (right < guessed) cache_.Cut(sequence, choice.computed());
  stats_.guessed += guessed;
  stats_.guessed_right += right;
  const bool more = guessed == 0 && holds && !choice.finished();  // it would have been right
  for (Acceptance* learns : {&choice.acceptance(), &acceptance_})
    learns->Report(slot.match, right + (more ? 1 : 0), !holds);
  if (choice.finished()) Free(sequence);
  Emit(slot, events);
}

}  // namespace cyllm::llama
