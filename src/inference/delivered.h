// What of an answer has reached the client, per choice, and so where another worker has to go on. Pure state:
// no clock, no I/O. Used by Resume.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "inference/event.h"
#include "inference/request.h"

namespace cyllm {

class Delivered {
 public:
  // Remembers `max_tokens` token ids at most; an answer that is longer cannot be continued.
  Delivered(uint32_t choices, size_t max_tokens) : choices_(choices), max_tokens_(max_tokens) {}

  // Notes what is in `events` (no Accepted) and takes out what had been delivered before. With `again`, the
  // events come from a worker that took over: what does not join on without a gap is an error (DATA_LOSS), of
  // which nothing is noted.
  Status Take(Batch& events, bool again);

  bool anything() const { return anything_; }  // a delta or a Finished
  bool finished() const;                       // every choice
  bool complete_ids() const { return complete_ids_; }
  ResumeState State(uint32_t epoch, std::string digest) const;

 private:
  struct Choice {
    std::vector<int32_t> token_ids;
    Offsets end;
    std::set<uint32_t> tools;  // calls whose head (id, name) was delivered
    bool finished = false;
  };
  enum class Fit : uint8_t { kNew, kOld, kGap };
  Fit Place(Event& event, bool again);
  template <class Delta>
  Fit PlaceDelta(Delta& delta, std::string& content, uint64_t Offsets::* counter, bool again);
  void Remember(Choice& choice, const std::vector<int32_t>& ids, const Offsets& end);

  std::vector<Choice> choices_;
  std::set<uint32_t> inputs_;  // of Values
  const size_t max_tokens_;
  size_t tokens_ = 0;
  bool anything_ = false;
  bool complete_ids_ = true;  // every token came with its id
};

}  // namespace cyllm
