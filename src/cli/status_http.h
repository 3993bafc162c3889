// What the coordinator and the worker say about themselves over HTTP: GET /health and /healthz (alive),
// /ready (can answer a request), /metrics. On a thread of its own, so that it answers while everything else
// is busy. No token: nothing of this is secret, and probes carry none. What else is served here checks for
// itself.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "gateway/http/message.h"
#include "inference/service.h"

namespace cyllm {

class StatusHttp {
 public:
  // `describe` is asked for each /ready, on the thread of its own; it outlives Stop.
  explicit StatusHttp(std::function<Snapshot()> describe);
  using Handler = std::function<HttpResponse(const HttpRequest&)>;
  // Also answers requests to `prefix` and below it, on the same thread. Before Start.
  void Serve(std::string prefix, Handler handler);
  ~StatusHttp();  // Stop()

  Status Start(const std::string& listen);   // host:port; port 0: any free one
  std::string address() const;               // "127.0.0.1:41234", after Start
  void SayNotReady(const std::string& why);  // from now on, whatever `describe` says; thread-safe
  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cyllm
