// Our types in the engine's and back.
#pragma once

#include <vector>

#include "base/clock.h"
#include "inference/event.h"
#include "inference/request.h"
#include "sdk/engine.h"

namespace cyllm {

// A request as the engine reads it; points into `facts` and `parts`, which outlive it.
class EngineRequest {
 public:
  EngineRequest(uint64_t id, uint32_t credit, const RequestFacts& facts, const PayloadParts& parts);
  EngineRequest(const EngineRequest&) = delete;
  EngineRequest& operator=(const EngineRequest&) = delete;
  const cyllm_request* get() const { return &request_; }

 private:
  std::vector<cyllm_logit_bias> bias_;
  std::vector<cyllm_str> stops_;
  std::vector<cyllm_resume_choice> resume_;
  std::vector<cyllm_input> inputs_;
  cyllm_sampling sampling_{};
  cyllm_request request_{};
};

// False for events that have no counterpart (END, a newer engine's).
bool FromEngine(const cyllm_event& event, Event* out);
Status FromEngine(const cyllm_error& error);

}  // namespace cyllm
