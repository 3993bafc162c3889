// Continuous batching: which tokens of which sequences go into each step, and what comes out of it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "llama_cpp/adapter_turns.h"
#include "llama_cpp/choice.h"
#include "llama_cpp/chunk_budget.h"
#include "llama_cpp/decoder.h"
#include "llama_cpp/events.h"
#include "llama_cpp/matching_budget.h"
#include "llama_cpp/prefix_cache.h"
#include "llama_cpp/prompt_lane.h"
#include "llama_cpp/request.h"
#include "llama_cpp/speculation.h"

namespace cyllm::llama {

struct SchedulerOptions {
  uint32_t prefill_chunk = 512;  // prompt tokens in a step, at most
  ChunkBudget::Seconds target_itl{0.1};
  bool prefix_caching = true;
  bool speculation = true;
};

struct SchedulerStats {
  uint32_t running = 0;   // sequences
  uint32_t requests = 0;  // with a sequence
  uint64_t cells_used = 0;
  uint64_t steps = 0, generated = 0, prefilled = 0;
  uint64_t cached = 0, evicted = 0, preemptions = 0;
  uint64_t guessed = 0, guessed_right = 0;  // tokens; of what was generated, so many came with another
};

// Owned by one thread. A step computes one token of every decoding sequence, or prompt tokens: these in
// turns, as many of them as keep two tokens of a sequence within the target latency. (llama.cpp computes them
// one after the other anyway; apart, the tokens leave sooner, and a step of prompts can be cut short.)
// Requests join and leave between any two steps.
//
// Lower priority numbers come first, to a sequence and to the prompt tokens of a step. Among equals, who came
// first gets the sequence, and the prompt that needs the least time gets the tokens, less the time it has
// waited: long prompts wait about as long as they take. A choice waits for a sequence while another one
// computes a prefix of its own prompt. When all sequences run, one of a higher number gives way to one of a
// lower, and one whose reader has stalled to any that is not less urgent; it starts again later, and goes on
// where it was.
//
// A choice costs one credit per step at most, and none is scheduled that could not be paid.
//
// A sequence that decodes alone is given several tokens in a step where its text repeats itself and that has
// been worth it; credit for each of them. The text is the same.
//
// A step is computed with one adapter, or none; those that have something to compute take turns.
//
// Grammars are matched on this thread. Where that takes long, the choice is held, with its logits, until its
// turn in a later step: those that are known to be dear share a quarter of the time, the others half of it,
// and a step waits for one of each past its share at most.
//
// With a prompt lane, long prompts are computed there while others decode, and the sequence comes back with
// all of its prompt. Those past the lane's seats wait for one for a moment; then they are computed here, in
// turns as above, until one is free. So they are, and the lane gets none, while there are more of them than
// of those who decode and the target latency has room for a tile: few who decode are not worth half of the
// cores.
class Scheduler {
 public:
  using Now = std::function<TimePoint()>;
  // The lane, which may be null, outlives this.
  Scheduler(Decoder& decoder, const Vocabulary& vocabulary, SchedulerOptions options, Now now,
            PromptLane* lane = nullptr);
  ~Scheduler();

  // The prompt is filled and fits. Adds ACCEPTED to `events`.
  void Add(std::unique_ptr<Request> request, Events* events);
  // Ends the request with `error`. False when it is not (any more) here.
  bool Cancel(uint64_t id, const cyllm_error& error, Events* events);
  bool Credit(uint64_t id, uint32_t events);

  // Takes over what the prompt lane has computed; before Plan.
  void Land(Events* events);

  // Chooses the next step; false when nothing can run until something is added or credited.
  bool Plan();
  // After a Plan that found nothing: when it may find something without that, because a reader's stall counts
  // from then on and somebody waits for the sequence.
  std::optional<TimePoint> WakeAt() const;
  // The requests of that step.
  std::vector<uint64_t> Planned() const;
  size_t planned_rows() const { return rows_.size(); }
  // Computes it. Requests of an aborted or failed step end.
  void Compute(const std::atomic<bool>& abort, Events* events);

  SchedulerStats stats() const;
  // Prefixes that came to be cached and that no longer are, since the last call.
  PrefixNames::Changes CacheChanges() { return cache_.names().Take(); }

 private:
  static constexpr MatchingBudget::Seconds kDear{0.01};  // a grammar that takes so long for a token
  struct Job;
  struct Slot {  // one choice, waiting or running
    Job* job;
    Choice* choice;
    uint64_t order;
    uint32_t planned = 0;  // tokens in this step
    size_t row = 0;        // of the last of them
    bool sample = false;   // that one's logits are wanted
    // What may follow; the first planned - 1 of it are in this step, and the logits of each row are wanted.
    std::vector<Token> guess;
    uint32_t match = 0;  // of the guess
    TimePoint admitted{};
    MatchingBudget::Seconds matched{0};  // the last match of its grammar took so long
    TimePoint held{};                    // with choice->held(): since
    bool due = false;                    // then: it may be matched in this step
    bool dear() const { return matched >= kDear; }
  };
  struct Away {
    Slot slot;
    uint32_t computed;  // when it left
  };
  struct First {
    bool operator()(const Slot& a, const Slot& b) const;
  };

  void Admit();
  struct Victim {
    std::optional<uint32_t> sequence;
    uint64_t ticket = 0;  // without a sequence
  };
  std::optional<Victim> Displaceable(const Slot& slot) const;
  void Displace(const Victim& victim);
  bool SharesWork(const Slot& slot) const;
  void Start(const Slot& slot);
  bool LaneIsOpen() const;
  bool Crowded() const;
  bool DepartWithPrefix(const Slot& slot);
  bool Depart(const Slot& slot, uint32_t donor, uint32_t computed);
  void DepartLong();
  bool WaitsForSeat(const Slot& slot, TimePoint now) const;
  bool Land(const Away& away, PromptLane::Result* result, Events* events);
  bool Full() const { return cache_.running() + away_.size() >= decoder_.max_running(); }
  void Compact();
  uint32_t Decoding() const;
  void PlanTurn(TimePoint now);
  void PlanStep();
  bool OfStep(const Slot& slot) const;
  void PlanDecoding();
  void FillGaps();
  void PlanGuess(Slot* slot);
  bool MustWait(const Slot& slot) const;
  void PlanPrefill();
  void AddRows();
  void Advance(uint32_t sequence, TimePoint now, Events* events);
  bool Next(uint32_t sequence, std::span<float> logits, TimePoint now, Events* events);
  void Sample(uint32_t sequence, bool prefilling, std::span<float> logits, TimePoint now, Events* events);
  MatchingBudget& BudgetOf(const Slot& slot);
  bool PlanHeld();
  void MatchHeld(bool idle, Events* events);
  void Choose(uint32_t sequence, std::span<float> logits, TimePoint now, Events* events);
  void Verify(uint32_t sequence, TimePoint now, Events* events);
  void Emit(const Slot& slot, Events* events);
  void Free(uint32_t sequence);
  void End(Job* job, const cyllm_error* error, Events* events);
  void Fail(DecodeResult result, Events* events);

  Decoder& decoder_;
  const Vocabulary& vocabulary_;
  const SchedulerOptions options_;
  const Now now_;
  PromptLane* const lane_;  // null: there is none

  PrefixCache cache_;
  ChunkBudget budget_;
  GuessLength guess_length_;
  Acceptance acceptance_;  // of all texts
  std::unordered_map<uint64_t, std::unique_ptr<Job>> jobs_;
  std::set<Slot, First> waiting_;
  std::vector<std::optional<Slot>> running_;  // by sequence
  std::map<uint64_t, Away> away_;             // in the prompt lane, by ticket
  bool lane_works_ = true;
  std::vector<Slot> empty_;   // of this step: choices that want no token
  std::vector<Slot> ending_;  // choices that have ended, and more to say than there was credit for
  std::vector<Row> rows_;
  uint32_t decoding_ = 0, prompt_ = 0;  // rows of this step
  AdapterTurns turns_;
  MatchingBudget matching_, dear_matching_;
  uint32_t adapter_ = 0;        // of this step
  bool changed_ = false;        // since the step before
  std::set<uint32_t> decoded_;  // adapters whose last step was one of tokens
  bool gap_ = false;            // between running sequences
  uint64_t arrivals_ = 0, tickets_ = 0;
  TimePoint planned_{};
  SchedulerStats stats_;
};

}  // namespace cyllm::llama
