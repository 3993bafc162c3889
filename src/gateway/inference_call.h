// One call of an inference endpoint, whatever its dialect: from the parsed body to the last byte of the
// answer.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "gateway/dialects/common/dialect.h"
#include "gateway/dialects/common/tally.h"
#include "gateway/gateway.h"
#include "gateway/http/server.h"
#include "gateway/route_receipt.h"
#include "inference/service.h"

namespace cyllm {

// How a call went, for the log and the metrics.
struct CallOutcome {
  int http = 0;                                       // status sent; 499: the client left before any
  Status end;                                         // CANCELLED: the client left
  uint32_t prompt_tokens = 0, completion_tokens = 0;  // of broken answers too: as far as they came
  double ttft_s = -1;                                 // negative: no token was sent
  RouteNote route;
};

// The handler of one exchange; used on its home only, lives as long as Run.
class InferenceCall {
 public:
  InferenceCall(const GatewayOptions& options, InferenceService& service, HttpExchange& exchange,
                const dialect::Dialect& dialect);

  Task<CallOutcome> Run(dialect::Call call, Context context);
  // On home, while Run runs: nothing more is waited for, and the client is told `end`.
  void EndWith(Status end);

 private:
  Task<> RunStream(dialect::Writer& writer);
  Task<> RunWhole(dialect::Writer& writer);
  // The next batch, or none when it became `wake_at`; false: the call is over (outcome_.end says how).
  Task<bool> Pull(Batch& events, TimePoint wake_at);
  Task<> Refuse();
  void AddRoute(HttpResponse& response) const;
  void SeeFirst(const Batch& events);
  std::string LateRoute();

  const GatewayOptions& options_;
  InferenceService& service_;
  HttpExchange& exchange_;
  const dialect::Dialect& dialect_;
  const TimePoint start_ = Clock::now();
  TimePoint deadline_ = kNever;
  EventStream stream_;
  bool gone_ = false;
  std::optional<Status> ended_;  // EndWith
  CallOutcome outcome_;
  Tally tally_;
  bool route_told_ = false;  // to the client
};

}  // namespace cyllm
