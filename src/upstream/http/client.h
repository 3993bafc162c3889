// HTTP/1.1 calls to one server from one thread, over connections that are kept and used again.
//
// A kept connection is closed by us before the server would, looked at before it is used, and if it turns out
// dead all the same before a byte of the answer has come, the call is sent once more over a fresh one: the
// server cannot have begun to answer.
//
// Dropping a call, or the coroutine that waits for it, closes its connection; that is how servers learn that
// nobody wants the answer any more.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "upstream/http/connection.h"

namespace cyllm {

struct ClientOptions {
  Url url;
  std::shared_ptr<boost::asio::ssl::context> tls;  // where the URL says https
  std::string bearer;                              // API key; empty: none
  Millis connect_timeout{3'000};
  Millis keep_idle{4'000};  // longest that a connection lies unused
  size_t max_idle = 64;
  uint32_t max_header_bytes = 64 * 1024;
};

struct ClientCall {
  std::string method = "GET";
  std::string path;
  std::string body;     // JSON
  std::string headers;  // further lines, each with its CRLF; from the process itself, never from clients
  TimePoint answer_by = kNever;  // of the answer's head
};

// An answer whose head has come. Destroyed after its end, the connection is kept; before, it is closed.
class ClientAnswer {
 public:
  virtual ~ClientAnswer() = default;
  int status = 0;
  bool event_stream = false;  // Content-Type: text/event-stream
  Millis retry_after{0};

  // The next piece of the body; empty: its end. UNAVAILABLE: the server died (kClosed), or was silent until
  // `until` (kSilent).
  virtual Task<Result<std::string>> Read(TimePoint until) = 0;
};

class HttpClient : public std::enable_shared_from_this<HttpClient> {
 public:
  HttpClient(ClientOptions options, Executor home);
  ~HttpClient();

  // On home only. UNAVAILABLE: kUnreachable (nothing was sent), kClosed, kSilent; INTERNAL: the answer is no
  // HTTP.
  Task<Result<std::unique_ptr<ClientAnswer>>> Send(ClientCall call);

  // Closes what lies idle. On home only.
  void CloseIdle();
  uint64_t opened() const { return opened_; }  // connections, ever; on home only
  size_t idle() const { return idle_.size(); }

 private:
  friend class Answer;
  struct Idle {
    std::unique_ptr<ServerConnection> connection;
    TimePoint until;
  };
  void Keep(std::unique_ptr<ServerConnection> connection, Millis server_limit);
  std::unique_ptr<ServerConnection> TakeIdle();
  void Trim();

  const ClientOptions options_;
  const Executor home_;
  boost::asio::steady_timer trim_;
  std::vector<Idle> idle_;  // the newest last
  uint64_t opened_ = 0;
};

// The whole body of an answer, at most `limit` bytes; UNAVAILABLE as Read says, INTERNAL when it is longer.
Task<Result<std::string>> ReadAll(ClientAnswer& answer, size_t limit, TimePoint until);

}  // namespace cyllm
