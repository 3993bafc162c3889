#include "gateway/http/connection.h"

#include <fmt/format.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <random>
#include <tuple>

#include "base/log.h"

namespace cyllm {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

namespace {

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr size_t kReadAhead = 4096;
constexpr std::chrono::seconds kLinger{2};

bool IsGoodId(std::string_view id) {
  return !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), [](unsigned char c) {
    return c > ' ' && c < 0x7f && c != '"' && c != '\\';
  });
}

std::string MakeId() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("req-{:016x}{:016x}", random(), random());
}

}  // namespace

class Connection::Limit {
 public:
  Limit(Connection& connection, std::chrono::milliseconds limit) : connection_(connection) {
    connection_.timed_out_ = false;
    connection_.timer_.expires_after(limit);
    connection_.timer_.async_wait([&c = connection, turn = ++connection.timer_turn_](beast::error_code ec) {
      if (ec || turn != c.timer_turn_) return;
      c.timed_out_ = true;
      c.socket_.cancel(ec);
    });
  }
  ~Limit() {
    ++connection_.timer_turn_;
    connection_.timer_.cancel();
  }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;

 private:
  Connection& connection_;
};

Connection::Connection(Socket socket, Executor home, const HttpServerOptions& options,
                       const HttpHandler& handler, const std::atomic<bool>& draining)
    : socket_(std::move(socket)),
      timer_(home),
      home_(home),
      options_(options),
      handler_(handler),
      draining_(draining),
      watch_ended_(std::move(home)) {}

Task<> Connection::Run() {
  beast::error_code ec;
  socket_.set_option(asio::ip::tcp::no_delay(true), ec);
  socket_.non_blocking(true, ec);
  for (bool first = true;; first = false) {
    if (co_await ReadRequest(first) != Read::kRequest) break;
    answered_ = streaming_ = false;
    co_await handler_(*this);
    on_hangup_ = nullptr;
    co_await Unwatch();
    if (!answered_ && !gone_)
      co_await Respond(options_.error(500, "The server gave no answer.", "internal_error"));
    if (streaming_) gone_ = true;  // a stream that was not finished must not look finished
    if (gone_ || !keep_alive_) break;
  }
  socket_.shutdown(Socket::shutdown_both, ec);
  socket_.close(ec);
  timer_.cancel();
}

void Connection::Abort() {
  beast::error_code ignored;
  Gone();
  socket_.close(ignored);
}

void Connection::CloseIfIdle() {
  beast::error_code ignored;
  if (idle_) socket_.close(ignored);
}

HttpRequest Connection::TakeRequest() {
  HttpRequest left;
  left.id = request_.id;
  return std::exchange(request_, std::move(left));
}

Task<Connection::Read> Connection::ReadRequest(bool first) {
  if (buffer_.size() == 0) {
    if (draining_) co_return Read::kClosed;
    idle_ = true;
    const Limit limit(*this, first ? options_.header_timeout : options_.idle_timeout);
    auto [ec, n] = co_await socket_.async_read_some(buffer_.prepare(kReadAhead), kTuple);
    idle_ = false;
    if (ec) co_return Read::kClosed;
    buffer_.commit(n);
  }
  request_ = {};
  request_.id = MakeId();
  keep_alive_ = false;
  http10_ = head_only_ = false;

  Parser parser;
  parser.header_limit(static_cast<uint32_t>(options_.max_header_bytes));
  parser.body_limit(options_.max_body_bytes);
  beast::error_code header_ec;
  {
    const Limit limit(*this, options_.header_timeout);
    std::tie(header_ec, std::ignore) = co_await http::async_read_header(socket_, buffer_, parser, kTuple);
  }
  if (header_ec && timed_out_) co_return co_await Refuse(408, "The request took too long to arrive.", "");
  if (header_ec == http::error::header_limit || header_ec == http::error::buffer_overflow)
    co_return co_await Refuse(431, "The request's headers are too large.", "headers_too_large");
  if (header_ec == http::error::body_limit)
    co_return co_await Refuse(413, "The request is too large.", "request_too_large");
  if (header_ec.category() == make_error_code(http::error::bad_method).category() &&
      header_ec != http::error::end_of_stream && header_ec != http::error::partial_message)
    co_return co_await Refuse(400, "This is not an HTTP request.", "");
  if (header_ec) co_return Read::kClosed;

  const auto& message = parser.get();
  if (const auto id = message.find("X-Request-Id");
      id != message.end() && IsGoodId({id->value().data(), id->value().size()}))
    request_.id = std::string(id->value());
  const auto length = parser.content_length();
  if (length && *length > options_.max_body_bytes)
    co_return co_await Refuse(
        413,
        fmt::format("The request is too large: {} bytes, {} are allowed.", *length, options_.max_body_bytes),
        "request_too_large");
  if (!parser.is_done()) {
    if (beast::iequals(message[http::field::expect], "100-continue")) {
      if (!co_await Send("HTTP/1.1 100 Continue\r\n\r\n")) co_return Read::kClosed;
    }
    beast::error_code body_ec;
    {
      const Limit limit(*this, options_.body_timeout);
      std::tie(body_ec, std::ignore) = co_await http::async_read(socket_, buffer_, parser, kTuple);
    }
    if (body_ec && timed_out_) co_return co_await Refuse(408, "The request took too long to arrive.", "");
    if (body_ec == http::error::body_limit)
      co_return co_await Refuse(
          413, fmt::format("The request is too large: {} bytes are allowed.", options_.max_body_bytes),
          "request_too_large");
    if (body_ec.category() == make_error_code(http::error::bad_method).category() &&
        body_ec != http::error::end_of_stream && body_ec != http::error::partial_message)
      co_return co_await Refuse(400, "The request's body is malformed.", "");
    if (body_ec) co_return Read::kClosed;
  }
  TakeOver(parser);
  co_return Read::kRequest;
}

void Connection::TakeOver(Parser& parser) {
  auto message = parser.release();
  http10_ = message.version() < 11;
  keep_alive_ = message.keep_alive();
  head_only_ = message.method() == http::verb::head;
  request_.method = std::string(message.method_string());
  const std::string_view target(message.target().data(), message.target().size());
  const size_t question = target.find('?');
  request_.path = target.substr(0, question);
  if (question != std::string_view::npos) request_.query = target.substr(question + 1);
  for (const auto& field : message) request_.headers.emplace_back(field.name_string(), field.value());
  request_.body = std::move(message.body());
}

Task<Connection::Read> Connection::Refuse(int status, std::string_view message, std::string_view code) {
  answered_ = false;
  keep_alive_ = false;
  Log()->info("{} -> {}: {}", request_.id, status, message);
  co_await Respond(options_.error(status, message, code));
  co_await Linger();
  co_return Read::kAnswered;
}

// The client may still be sending: closing now would reset the connection before it has read the answer.
Task<> Connection::Linger() {
  beast::error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
  const Limit limit(*this, kLinger);
  buffer_.clear();
  while (true) {
    auto [ec, n] = co_await socket_.async_read_some(buffer_.prepare(64 << 10), kTuple);
    if (ec) co_return;
  }
}

std::string Connection::Head(const HttpResponse& response, bool chunked) const {
  std::string head;
  head.reserve(512);
  fmt::format_to(std::back_inserter(head), "HTTP/1.1 {} {}\r\nServer: cy-llm\r\n", response.status,
                 ReasonPhrase(response.status));
  if (!response.content_type.empty() && response.status != 204)
    head += "Content-Type: " + response.content_type + "\r\n";
  for (const auto& [name, value] : response.headers) head += name + ": " + value + "\r\n";
  head += "X-Request-Id: " + request_.id + "\r\n";
  if (chunked) {
    head += "Transfer-Encoding: chunked\r\n";
  } else if (!streaming_ && response.status != 204) {
    fmt::format_to(std::back_inserter(head), "Content-Length: {}\r\n", response.body.size());
  }
  if (!keep_alive_) {
    head += "Connection: close\r\n";
  } else if (http10_) {
    head += "Connection: keep-alive\r\n";
  }
  head += "\r\n";
  return head;
}

Task<bool> Connection::Respond(HttpResponse response) {
  if (answered_ || gone_) co_return false;
  answered_ = true;
  if (draining_) keep_alive_ = false;
  std::string data = Head(response, false);
  if (!head_only_) data += response.body;
  co_return co_await Send(std::move(data));
}

Task<bool> Connection::StartStream(HttpResponse head) {
  if (answered_ || gone_) co_return false;
  answered_ = streaming_ = true;
  chunked_ = !http10_;
  if (http10_ || draining_) keep_alive_ = false;
  std::string data = Head(head, chunked_);
  if (!head.body.empty()) {
    if (chunked_) fmt::format_to(std::back_inserter(data), "{:x}\r\n", head.body.size());
    data += head.body;
    if (chunked_) data += "\r\n";
  }
  co_return co_await Send(std::move(data));
}

Task<bool> Connection::Write(std::string data) {
  if (data.empty() || gone_ || !streaming_) co_return !gone_;
  if (!chunked_) co_return co_await Send(std::move(data));
  std::string chunk = fmt::format("{:x}\r\n", data.size());
  chunk += data;
  chunk += "\r\n";
  co_return co_await Send(std::move(chunk));
}

Task<bool> Connection::FinishStream() {
  if (!std::exchange(streaming_, false) || gone_) co_return false;
  if (!chunked_) co_return true;
  co_return co_await Send("0\r\n\r\n");
}

Task<bool> Connection::Send(std::string data) {
  const char* at = data.data();
  size_t left = data.size();
  while (left > 0) {
    beast::error_code ec;
    size_t n = socket_.write_some(asio::buffer(at, left), ec);
    if (ec == asio::error::would_block) {
      // The limit is for progress, not for the whole: it starts anew with every part the kernel takes.
      const Limit limit(*this, options_.write_stall);
      std::tie(ec, n) = co_await socket_.async_write_some(asio::buffer(at, left), kTuple);
    }
    if (ec) {
      Gone();
      co_return false;
    }
    at += n;
    left -= n;
  }
  co_return true;
}

void Connection::OnHangup(std::function<void()> f) {
  on_hangup_ = std::move(f);
  if (on_hangup_ && gone_) {
    std::exchange(on_hangup_, nullptr)();
  } else if (on_hangup_ && !watching_) {
    Watch();
  }
}

void Connection::Gone() {
  gone_ = true;
  if (on_hangup_) std::exchange(on_hangup_, nullptr)();
}

// A read that is expected to find nothing: its failing is the hang-up. What it does find is the next request.
void Connection::Watch() {
  if (buffer_.size() >= kReadAhead) return;  // a pipelining client: it is alive
  watching_ = true;
  socket_.async_read_some(
      buffer_.prepare(kReadAhead),
      asio::bind_cancellation_slot(stop_watching_.slot(), [this](beast::error_code ec, size_t n) {
        watching_ = false;
        buffer_.commit(n);
        if (ec && ec != asio::error::operation_aborted) Gone();
        if (!ec && on_hangup_) Watch();  // a byte of the next request is no reason to stop looking
        if (!watching_) watch_ended_.Notify();
      }));
}

Task<> Connection::Unwatch() {
  if (watching_) stop_watching_.emit(asio::cancellation_type::terminal);
  while (watching_) co_await watch_ended_.Wait();
}

}  // namespace cyllm
