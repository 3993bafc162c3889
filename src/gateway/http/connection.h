// One client's connection: requests one after the other, on one thread.
#pragma once

#include <atomic>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <memory>

#include "async/signal.h"
#include "async/time_limit.h"
#include "gateway/http/head.h"
#include "gateway/http/server.h"
#include "gateway/http/stream.h"

namespace cyllm {

class Connection final : public HttpExchange {
 public:
  // `handler` and `draining` outlive the connection.
  Connection(ByteStream::Socket socket, ByteStream::TlsContext tls, Executor home,
             std::shared_ptr<const HttpServerOptions> options, const HttpHandler& handler,
             const std::atomic<bool>& draining);

  Task<> Run();
  // Instead of Run: has no room; answers what comes first with 503. Takes 4 s at most, and the handshake.
  Task<> TurnAway();
  // The same without waiting for anything: what the kernel does not take at once is not said. On any thread,
  // as the only call.
  void TurnAwayAtOnce();
  void Abort();        // ends it now; on home
  void CloseIfIdle();  // ends it when it waits for a request; on home
  Executor home() const override { return home_; }

  const HttpRequest& request() const override { return request_; }
  HttpRequest TakeRequest() override;
  void AddHeader(std::string_view name, std::string_view value) override;
  Task<bool> Respond(HttpResponse response) override;
  Task<bool> StartStream(HttpResponse head) override;
  Task<bool> Write(std::string data) override;
  Task<bool> FinishStream() override;
  void OnHangup(std::function<void()> f) override;

 private:
  enum class Read { kRequest, kClosed, kAnswered };

  Task<bool> Begin();
  Task<> End();

  Task<Read> ReadRequest(bool first);
  Task<bool> WaitForBytes(std::chrono::milliseconds limit);
  // Bytes of the head at the front of buffer_; 0: there is none (`refusal` says why, or the client left).
  Task<size_t> ReadHead(HeadError& refusal);
  Task<Read> ReadBody(const RequestHead& head);
  Task<Read> ReadFixed(uint64_t length);
  Task<Read> ReadChunked();
  Task<bool> Fill(size_t at_most);  // more bytes into buffer_
  void TakeHead(const RequestHead& head);
  Task<Read> Refuse(int status, std::string_view message, std::string_view code);
  Task<Read> RefuseSize();
  Task<Read> AfterFailedRead();

  std::string_view Buffered() const {
    return {static_cast<const char*>(buffer_.data().data()), buffer_.size()};
  }
  std::string Head(const HttpResponse& response, bool chunked) const;
  Task<bool> Send(std::string data);
  void Watch();
  Task<> Unwatch();
  void Gone();
  Task<> Linger();

  // Cancels what waits on the socket when `limit` has passed; limit_ tells then.
  struct Limit;

  ByteStream stream_;
  TimeLimit limit_;
  const Executor home_;
  const std::shared_ptr<const HttpServerOptions> options_;
  const HttpHandler& handler_;
  const std::atomic<bool>& draining_;
  boost::beast::flat_buffer buffer_;

  HttpRequest request_;
  std::string added_headers_;                // as lines
  bool head_only_ = false, http10_ = false;  // of the request
  bool keep_alive_ = false;
  bool answered_ = false, streaming_ = false, chunked_ = false;
  bool idle_ = false, gone_ = false;

  std::function<void()> on_hangup_;
  boost::asio::cancellation_signal stop_watching_;
  Signal watch_ended_;
  bool watching_ = false;
};

}  // namespace cyllm
