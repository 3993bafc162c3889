#include "upstream/http/connection.h"

#include <array>
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>

#include "async/signal.h"

namespace cyllm {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr Millis kFullQueue{5};  // between two attempts to get into a server's queue of connections

}  // namespace

ServerConnection::ServerConnection(Executor home) : home_(home), socket_(home), limit_(home) {}

ServerConnection::~ServerConnection() {
  error_code ignored;
  socket_.close(ignored);
}

Status ServerConnection::Broken(const char* reason) const {
  if (limit_.passed()) return Unavailable("the model's server does not answer", kSilent);
  return Unavailable(reason == kUnreachable ? "the model's server cannot be reached"
                                            : "the model's server broke the connection",
                     reason);
}

Task<Status> ServerConnection::Open(const Url& url, asio::ssl::context* tls, TimePoint until) {
  error_code ec;
  if (url.is_unix()) {
    asio::local::stream_protocol::socket socket(home_);
    const TimeLimit::Scope limit(limit_, until, [&socket] { socket.close(); });
    while (!limit_.passed()) {
      std::tie(ec) =
          co_await socket.async_connect(asio::local::stream_protocol::endpoint(url.unix_path), kTuple);
      if (ec) break;
      // Where the server's queue is full, the kernel says EAGAIN, which Asio takes for a success to come.
      socket.remote_endpoint(ec);
      if (!ec) {
        socket_ = std::move(socket);
        co_return Status::Ok();
      }
      socket.close(ec);
      co_await SleepUntil(After(Clock::now(), kFullQueue));
    }
    co_return Broken(kUnreachable);
  }
  {
    asio::ip::tcp::resolver resolver(home_);
    asio::ip::tcp::socket socket(home_);
    const TimeLimit::Scope limit(limit_, until, [&] {
      resolver.cancel();
      error_code ignored;
      socket.close(ignored);
    });
    asio::ip::tcp::resolver::results_type found;
    std::tie(ec, found) = co_await resolver.async_resolve(url.host, url.port, kTuple);
    if (ec || limit_.passed()) co_return Broken(kUnreachable);
    std::tie(ec, std::ignore) = co_await asio::async_connect(socket, found, kTuple);
    if (ec) co_return Broken(kUnreachable);
    socket.set_option(asio::ip::tcp::no_delay(true), ec);
    socket_ = std::move(socket);
  }
  if (!url.tls) co_return Status::Ok();
  tls_.emplace(socket_, *tls);
  SSL_set_tlsext_host_name(tls_->native_handle(), url.host.c_str());
  tls_->set_verify_callback(asio::ssl::host_name_verification(url.host), ec);
  const TimeLimit::Scope limit(limit_, until, [this] { socket_.cancel(); });
  std::tie(ec) = co_await tls_->async_handshake(asio::ssl::stream_base::client, kTuple);
  co_return ec ? Broken(kUnreachable) : Status::Ok();
}

Task<Status> ServerConnection::Write(std::string_view head, std::string_view body, TimePoint until) {
  const TimeLimit::Scope limit(limit_, until, [this] { socket_.cancel(); });
  const std::array<asio::const_buffer, 2> buffers = {asio::buffer(head), asio::buffer(body)};
  error_code ec;
  if (tls_) {
    std::tie(ec, std::ignore) = co_await asio::async_write(*tls_, buffers, kTuple);
  } else {
    std::tie(ec, std::ignore) = co_await asio::async_write(socket_, buffers, kTuple);
  }
  co_return ec ? Broken(kClosed) : Status::Ok();
}

Task<Result<size_t>> ServerConnection::Read(char* data, size_t size, TimePoint until) {
  const TimeLimit::Scope limit(limit_, until, [this] { socket_.cancel(); });
  error_code ec;
  size_t n = 0;
  if (tls_) {
    std::tie(ec, n) = co_await tls_->async_read_some(asio::buffer(data, size), kTuple);
  } else {
    std::tie(ec, n) = co_await socket_.async_read_some(asio::buffer(data, size), kTuple);
  }
  if (ec || n == 0) co_return Err(Broken(kClosed));
  co_return n;
}

bool ServerConnection::Stale() {
  // The end, or a TLS record: both mean that the server will say no more to us.
  char byte;
  error_code ec;
  socket_.non_blocking(true, ec);
  if (ec) return true;
  socket_.receive(asio::buffer(&byte, 1), asio::socket_base::message_peek, ec);
  return ec != asio::error::would_block;
}

}  // namespace cyllm
