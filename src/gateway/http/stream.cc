#include "gateway/http/stream.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace cyllm {

namespace asio = boost::asio;

namespace {

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

}  // namespace

ByteStream::ByteStream(Socket socket, TlsContext tls) : socket_(std::move(socket)), context_(std::move(tls)) {
  if (context_) tls_ = std::make_unique<Tls>(socket_, *context_);
}

Task<ByteStream::Error> ByteStream::Handshake() {
  auto [ec] = co_await tls_->async_handshake(asio::ssl::stream_base::server, kTuple);
  co_return ec;
}

Task<std::pair<ByteStream::Error, size_t>> ByteStream::Read(asio::mutable_buffer buffer) {
  if (tls_) {
    auto [ec, n] = co_await tls_->async_read_some(buffer, kTuple);
    co_return std::pair(ec, n);
  }
  auto [ec, n] = co_await socket_.async_read_some(buffer, kTuple);
  co_return std::pair(ec, n);
}

Task<std::pair<ByteStream::Error, size_t>> ByteStream::Write(asio::const_buffer buffer,
                                                             const std::function<void()>& wait) {
  if (tls_) {
    wait();
    auto [ec, n] = co_await tls_->async_write_some(buffer, kTuple);
    co_return std::pair(ec, n);
  }
  Error error;
  const size_t written = socket_.write_some(buffer, error);
  if (error != asio::error::would_block) co_return std::pair(error, written);
  wait();
  auto [ec, n] = co_await socket_.async_write_some(buffer, kTuple);
  co_return std::pair(ec, n);
}

void ByteStream::Watch(asio::mutable_buffer buffer, asio::cancellation_slot stop,
                       std::function<void(Error, size_t)> done) {
  auto handler = asio::bind_cancellation_slot(stop, std::move(done));
  if (tls_) {
    tls_->async_read_some(buffer, std::move(handler));
  } else {
    socket_.async_read_some(buffer, std::move(handler));
  }
}

Task<> ByteStream::ShutdownSend() {
  Error ignored;
  if (tls_) co_await tls_->async_shutdown(kTuple);
  socket_.shutdown(Socket::shutdown_send, ignored);
}

void ByteStream::Close() {
  Error ignored;
  socket_.close(ignored);
}

}  // namespace cyllm
