// One call of an inference endpoint: from the parsed body to the last byte of the answer.
#pragma once

#include <memory>
#include <string>

#include "gateway/dialects/openai/call.h"
#include "gateway/dialects/openai/error.h"
#include "gateway/dialects/openai/writer.h"
#include "gateway/gateway.h"
#include "gateway/http/server.h"
#include "inference/service.h"

namespace cyllm {

// How a call went, for the log and the metrics.
struct CallOutcome {
  int http = 0;  // status sent; 499: the client left before any
  Status end;    // CANCELLED: the client left
  openai::Totals totals;
  double ttft_s = -1;  // negative: no token was sent
};

// The handler of one exchange; used on its home only, lives as long as Run.
class InferenceCall {
 public:
  InferenceCall(const GatewayOptions& options, InferenceService& service, HttpExchange& exchange);

  Task<CallOutcome> Run(openai::Call call, Context context);

 private:
  Task<> RunStream(const openai::Call& call, openai::ResponseInfo info);
  Task<> RunWhole(const openai::Call& call, openai::ResponseInfo info);
  // The next batch; false: the call is over (outcome_.end says how). Progress is left out. With `ping`: an
  // empty batch when a ping is due.
  Task<bool> Pull(Batch& events, TimePoint wake_at);
  Task<> Refuse();
  void SeeFirst(const Batch& events);

  const GatewayOptions& options_;
  InferenceService& service_;
  HttpExchange& exchange_;
  const TimePoint start_ = Clock::now();
  TimePoint deadline_ = kNever;
  EventStream stream_;
  bool gone_ = false;
  CallOutcome outcome_;
};

HttpResponse ToResponse(const openai::ApiError& error);

}  // namespace cyllm
