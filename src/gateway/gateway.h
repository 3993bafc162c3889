// The gateway: HTTP in, InferenceService out. Owns the listener and its connections; the graph behind it
// belongs to the caller.
#pragma once

#include <chrono>
#include <functional>
#include <map>
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
  std::string tls_certificate, tls_key;   // PEM files; empty: plain HTTP
  std::vector<std::string> api_tokens;    // empty: open access
  bool models_need_token = true;          // GET /v1/models and what is like it
  std::vector<std::string> cors_origins;  // of pages that may ask; "*": any. Empty: with tokens any, else
                                          // those of this machine
  std::map<std::string, std::string> model_aliases;  // name -> id
  bool model_fallback = false;                       // an unknown model is the default one
  uint32_t default_max_tokens = 0;                   // for chats that give none; 0: the rest of the context
  uint32_t max_max_tokens = 0;                       // more is cut to this; 0: no limit
  uint32_t max_choices = 16;                         // cap of `n`
  uint32_t max_inputs = 2048;                        // texts to embed or to rank, prompts × n, in one request
  bool echo_root = false;                            // POST / answers with its body: for tests of HTTP itself
  bool log_prompts = false;                          // bodies go to the log

  size_t max_body_bytes = 32u << 20;
  size_t max_header_bytes = 32u << 10;
  size_t max_connections = 20'000;
  size_t max_connections_per_address = 0;                // 0: no limit
  std::chrono::milliseconds header_timeout{10'000};      // from the first byte of a request (or connect)
  std::chrono::milliseconds body_timeout{60'000};        // for the whole body
  std::chrono::milliseconds idle_timeout{180'000};       // keep-alive
  std::chrono::milliseconds write_stall{60'000};         // a client that reads nothing for so long is cut off
  std::chrono::milliseconds request_timeout{1'800'000};  // the request's deadline; 0: none
  std::chrono::milliseconds header_commit{10'000};       // after so long without `accepted`: 200 and pings
  std::chrono::milliseconds sse_ping{10'000};            // 0: off
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

  // Takes over everything from the next request (of the connection's limits: from the next connection) on;
  // reads the certificate files again. What runs goes on as it began. An error changes nothing; that `listen`
  // is another one is an error.
  Status Reload(GatewayOptions options);

  // Closes the listener, answers new requests on open connections with 503, and returns when running ones are
  // done. What still runs at `until` is ended with an error that its client is told, for a second; then
  // Stop() ends the rest. Neither on an I/O thread.
  bool Drain(TimePoint until);
  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cyllm
