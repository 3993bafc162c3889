// Resume: an answer that breaks off goes on where another worker can take over. Stands at the edge that faces
// the client (the gateway; the coordinator for StreamPredict clients), so that it also outlives a
// coordinator. The client sees one stream: one Accepted, no token twice, none missing, usage counted once.
//
// What is resumed: after Accepted, an end that says `retryable`, or a stream that ends well without all its
// Finished; before Accepted, a connection that is lost or not there. The same request is submitted again with
// the token ids and offsets that were delivered, a new epoch and the worker to avoid. If tokens were
// delivered, only a worker with an equal digest may go on, and only where the first one said `resumable`;
// else the client gets the error. What must be the same in every attempt, and is computed once, is fixed
// here: seed and prefix hashes. Attempts without progress are bounded in number and time; a request that
// takes down every worker it meets is given up after `max_losses` of them.
#pragma once

#include <functional>
#include <memory>

#include "inference/service.h"

namespace cyllm {

struct ResumeOptions {
  Millis patience{10'000};    // from a loss until it is told, while nobody can take over
  uint32_t max_losses = 3;    // workers lost in a row without a token in between
  uint32_t max_resumes = 16;  // of one request, with progress in between
  Millis backoff_min{20};     // after the second failure in a row; doubles
  Millis backoff_max{500};
  size_t max_tokens = 1u << 20;   // remembered per request (4 bytes each); a longer answer is not resumed
  std::function<int64_t()> seed;  // for requests without one; null: random. Fixed here, so that resuming
                                  // repeats it
};

// `inner` outlives the service's streams. Thread-safe.
class Resume : public InferenceService {
 public:
  Resume(std::shared_ptr<InferenceService> inner, ResumeOptions options);

  EventStream Infer(Request request, Context context) override;
  Snapshot Describe() const override { return inner_->Describe(); }

 private:
  const std::shared_ptr<InferenceService> inner_;
  const std::shared_ptr<const ResumeOptions> options_;
};

}  // namespace cyllm
