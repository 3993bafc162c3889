// An HTTP/1.1 server on coroutines: bounded requests, keep-alive, streams with back-pressure, hang-up
// detection. Knows nothing of what it serves.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "async/io_pool.h"
#include "async/task.h"
#include "base/clock.h"
#include "base/status.h"
#include "gateway/http/message.h"

namespace cyllm {

struct HttpServerOptions {
  std::string listen = "127.0.0.1:0";  // host:port; "[::1]:port"; port 0: any free one
  size_t max_header_bytes = 32u << 10;
  size_t max_target_bytes = 16u << 10;
  size_t max_body_bytes = 16u << 20;
  size_t max_connections = 10'000;                   // more wait in the listen backlog
  size_t max_connections_per_address = 0;            // more are told so (503) and closed; 0: no limit
  std::chrono::milliseconds header_timeout{10'000};  // from the first byte of a request (or connect)
  std::chrono::milliseconds body_timeout{60'000};
  std::chrono::milliseconds idle_timeout{180'000};  // between requests
  std::chrono::milliseconds write_stall{60'000};    // a client that takes nothing for so long is cut off
  std::string tls_certificate, tls_key;             // PEM files (the chain, its key); empty: plain HTTP
  std::string metrics;                              // name of the gauge of open connections; empty: none
  // The answer to what is no proper request (408, 413, 431, 400), and to a handler that gave none (500). Of
  // the request there is what could be read: often no more than its id.
  std::function<HttpResponse(const HttpRequest& request, int status, std::string_view message,
                             std::string_view code)>
      error = [](const HttpRequest&, int status, std::string_view message, std::string_view code) {
        return PlainError(status, message, code);
      };

  bool tls() const { return !tls_certificate.empty(); }
};

// One request and its answer; lives during the handler, used on its home only. Exactly one answer: Respond,
// or StartStream, Write..., FinishStream. Each returns false when the client is gone (also when it stalled);
// the rest may then be left out.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual const HttpRequest& request() const = 0;
  virtual HttpRequest TakeRequest() = 0;  // moves it out; of request() only the id is left
  virtual Executor home() const = 0;
  // Goes with the answer, whichever it will be. `value`: no line breaks.
  virtual void AddHeader(std::string_view name, std::string_view value) = 0;

  virtual Task<bool> Respond(HttpResponse response) = 0;
  virtual Task<bool> StartStream(HttpResponse head) = 0;  // `body`: what to send at once
  virtual Task<bool> Write(std::string data) = 0;  // returns when the kernel has taken it; empty: nothing
  virtual Task<bool> FinishStream() = 0;

  // From now on `f` is called once, on home, when the client hangs up (or the server stops). The handler
  // clears it (nullptr) before what it refers to goes.
  virtual void OnHangup(std::function<void()> f) = 0;
};

using HttpHandler = std::function<Task<>(HttpExchange&)>;

class HttpServer {
 public:
  HttpServer(HttpServerOptions options, IoPool& pool, HttpHandler handler);
  ~HttpServer();  // Stop()

  Status Start();
  std::string address() const;  // "127.0.0.1:41234", after Start

  // What new connections get: limits, and certificates read anew. Where to listen and whether with TLS stay
  // as they are. An error (a file that is none) changes nothing. Thread-safe.
  Status Reload(HttpServerOptions options);

  // Accepts no more connections; each open one is closed after the answer under way. Thread-safe.
  void BeginDrain();
  // Returns when no connection is left, or at `until`; true when none. Not on an I/O thread.
  bool WaitIdle(TimePoint until);
  // Ends everything; blocks. Not on an I/O thread.
  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cyllm
