// The bytes of a connection: plain TCP, or TLS over it. Used on one executor only.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <functional>
#include <memory>

#include "async/task.h"

namespace cyllm {

class ByteStream {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  using Error = boost::system::error_code;
  using TlsContext = std::shared_ptr<boost::asio::ssl::context>;

  // `tls` null: plain.
  ByteStream(Socket socket, TlsContext tls);

  // Before anything else where there is TLS.
  Task<Error> Handshake();
  // At least one byte, or an error.
  Task<std::pair<Error, size_t>> Read(boost::asio::mutable_buffer buffer);
  // A part, at least a byte, or an error. `wait` is called before it waits for the peer.
  Task<std::pair<Error, size_t>> Write(boost::asio::const_buffer buffer, const std::function<void()>& wait);
  // A read beside writes; `stop` ends it.
  void Watch(boost::asio::mutable_buffer buffer, boost::asio::cancellation_slot stop,
             std::function<void(Error, size_t)> done);

  Socket& socket() { return socket_; }
  // Says that nothing more comes. TLS: waits until the peer says so too.
  Task<> ShutdownSend();
  void Close();

 private:
  using Tls = boost::asio::ssl::stream<Socket&>;

  Socket socket_;
  TlsContext context_;
  std::unique_ptr<Tls> tls_;
};

}  // namespace cyllm
