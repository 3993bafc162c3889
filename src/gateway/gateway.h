// The gateway: HTTP in, InferenceService out. Owns the listener and its connections; the graph behind it
// belongs to the caller.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "async/io_pool.h"
#include "base/status.h"
#include "gateway/http/message.h"
#include "inference/service.h"

namespace cyllm {

struct GatewayOptions {
  std::string listen = "127.0.0.1:8000";  // host:port; port 0: any free one
  std::vector<std::string> api_tokens;    // empty: open access
  bool models_need_token = true;          // GET /v1/models
  size_t max_body_bytes = 16u << 20;
  size_t max_header_bytes = 32u << 10;
  size_t max_connections = 10000;
  std::chrono::milliseconds header_timeout{10'000};      // from the first byte of a request (or connect)
  std::chrono::milliseconds body_timeout{60'000};        // for the whole body
  std::chrono::milliseconds idle_timeout{180'000};       // keep-alive
  std::chrono::milliseconds write_stall{60'000};         // a client that reads nothing for so long is cut off
  std::chrono::milliseconds request_timeout{1'800'000};  // the request's deadline; 0: none
  std::chrono::milliseconds header_commit{10'000};       // after so long without `accepted`: 200 and pings
  std::chrono::milliseconds sse_ping{10'000};            // 0: off
  uint32_t max_choices = 16;                             // cap of `n`
  // Answers /workers and what lies below it, for who shows `admin_key`; may block, runs on a thread of its
  // own. Null: there is no such path.
  std::function<HttpResponse(const HttpRequest&)> admin;
  std::string admin_key;
};

class Gateway {
 public:
  Gateway(GatewayOptions options, IoPool& pool, std::shared_ptr<InferenceService> service);
  ~Gateway();  // Stop()

  Status Start();               // binds and accepts; fails with a sentence that names address and reason
  std::string address() const;  // "127.0.0.1:41234", after Start

  // Closes the listener, answers new requests on open connections with 503, and returns when running ones are
  // done, or at `until`. Then Stop() ends the rest. Neither on an I/O thread.
  bool Drain(TimePoint until);
  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cyllm
