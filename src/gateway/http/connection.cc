#include "gateway/http/connection.h"

#include <fmt/format.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>
#include <random>

#include "base/log.h"
#include "gateway/http/chunked.h"

namespace cyllm {

namespace asio = boost::asio;

namespace {

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr size_t kReadAhead = 4096;
constexpr size_t kIdleBuffer = 2048;        // that an idle connection holds
constexpr size_t kBodyStep = 64u << 10;     // of memory for a body, at first
constexpr size_t kBodyGrowth = 32;          // times what has come: room that is not touched is no memory
constexpr size_t kLingerBytes = 64u << 20;  // read and thrown away after a refusal, at most
constexpr std::chrono::seconds kLinger{2};
constexpr std::string_view kNoRoom = "Too many connections from this address.";
constexpr std::string_view kNoRoomCode = "too_many_connections";

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

struct Connection::Limit : TimeLimit::Scope {
  Limit(Connection& c, std::chrono::milliseconds limit)
      : Scope(c.limit_, After(Clock::now(), limit), [&c] {
          ByteStream::Error ignored;
          c.stream_.socket().cancel(ignored);
        }) {}
};

Connection::Connection(ByteStream::Socket socket, ByteStream::TlsContext tls, Executor home,
                       std::shared_ptr<const HttpServerOptions> options, const HttpHandler& handler,
                       const std::atomic<bool>& draining)
    : stream_(std::move(socket), std::move(tls)),
      limit_(home),
      home_(home),
      options_(std::move(options)),
      handler_(handler),
      draining_(draining),
      watch_ended_(std::move(home)) {}

Task<bool> Connection::Begin() {
  ByteStream::Error ec;
  stream_.socket().set_option(asio::ip::tcp::no_delay(true), ec);
  stream_.socket().non_blocking(true, ec);
  if (options_->tls()) {
    const Limit limit(*this, options_->header_timeout);
    ec = co_await stream_.Handshake();
  }
  co_return !ec;
}

Task<> Connection::End() {
  if (!gone_) {
    const Limit limit(*this, kLinger);
    co_await stream_.ShutdownSend();
  }
  stream_.Close();
}

Task<> Connection::TurnAway() {
  const bool begun = co_await Begin();
  if (begun && co_await WaitForBytes(kLinger)) {
    request_.id = MakeId();
    co_await Refuse(503, kNoRoom, kNoRoomCode);
  }
  co_await End();
}

void Connection::TurnAwayAtOnce() {
  if (!options_->tls()) {
    request_.id = MakeId();
    const HttpResponse response = options_->error(request_, 503, kNoRoom, kNoRoomCode);
    const std::string data = Head(response, false) + response.body;
    std::string scrap(kReadAhead, '\0');
    ByteStream::Socket& socket = stream_.socket();
    ByteStream::Error ignored;
    socket.non_blocking(true, ignored);
    socket.write_some(asio::buffer(data), ignored);
    socket.read_some(asio::buffer(scrap), ignored);  // what is left unread would reset the connection
    socket.shutdown(ByteStream::Socket::shutdown_send, ignored);
  }
  stream_.Close();
}

Task<> Connection::Run() {
  const bool begun = co_await Begin();
  for (bool first = true; begun; first = false) {
    if (co_await ReadRequest(first) != Read::kRequest) break;
    answered_ = streaming_ = false;
    co_await handler_(*this);
    on_hangup_ = nullptr;
    co_await Unwatch();
    if (!answered_ && !gone_)
      co_await Respond(options_->error(request_, 500, "The server gave no answer.", "internal_error"));
    if (streaming_) gone_ = true;  // a stream that was not finished must not look finished
    if (gone_ || !keep_alive_) break;
  }
  co_await End();
}

void Connection::Abort() {
  Gone();
  stream_.Close();
}

void Connection::CloseIfIdle() {
  if (idle_) stream_.Close();
}

HttpRequest Connection::TakeRequest() {
  HttpRequest left;
  left.id = request_.id;
  return std::exchange(request_, std::move(left));
}

void Connection::AddHeader(std::string_view name, std::string_view value) {
  added_headers_.append(name).append(": ").append(value).append("\r\n");
}

// ---- reading

Task<bool> Connection::Fill(size_t at_most) {
  const auto [ec, n] = co_await stream_.Read(buffer_.prepare(at_most));
  buffer_.commit(n);
  co_return !ec;
}

Task<bool> Connection::WaitForBytes(std::chrono::milliseconds limit_time) {
  if (buffer_.capacity() > kIdleBuffer) {
    buffer_.clear();
    buffer_.shrink_to_fit();
  }
  request_ = {};
  idle_ = true;
  const Limit limit(*this, limit_time);
  const bool ok = co_await Fill(kIdleBuffer);
  idle_ = false;
  co_return ok;
}

Task<size_t> Connection::ReadHead(HeadError& refusal) {
  const Limit limit(*this, options_->header_timeout);
  size_t seen = 0;
  while (true) {
    // Some clients end a body with an empty line too much.
    while (seen == 0 && Buffered().starts_with("\r\n")) buffer_.consume(2);
    if (const size_t end = FindHeadEnd(Buffered(), seen)) {
      if (end <= options_->max_header_bytes) co_return end;
      refusal = {431, "The request's headers are too large."};
      co_return 0;
    }
    seen = buffer_.size();
    if (!LooksLikeHead(Buffered())) {
      refusal = seen > 2 ? HeadError{400, "This is not an HTTP request."} : HeadError{0, ""};
      if (refusal.status != 0) co_return 0;
    }
    if (seen > options_->max_header_bytes) {
      const bool line = Buffered().find('\n') == std::string_view::npos;
      refusal = line ? HeadError{414, "The request's path is too long."}
                     : HeadError{431, "The request's headers are too large."};
      co_return 0;
    }
    if (!co_await Fill(kReadAhead)) {
      if (limit_.passed()) refusal = {408, "The request took too long to arrive."};
      co_return 0;
    }
  }
}

Task<Connection::Read> Connection::ReadRequest(bool first) {
  if (buffer_.size() == 0) {
    if (draining_) co_return Read::kClosed;
    if (!co_await WaitForBytes(first ? options_->header_timeout : options_->idle_timeout))
      co_return Read::kClosed;
  }
  request_ = {};
  request_.id = MakeId();
  added_headers_.clear();
  keep_alive_ = http10_ = head_only_ = false;

  HeadError refusal{0, ""};
  const size_t size = co_await ReadHead(refusal);
  if (size == 0) {
    if (refusal.status == 0) co_return Read::kClosed;
    co_return co_await Refuse(refusal.status, refusal.message,
                              refusal.status == 431 ? "headers_too_large" : "");
  }
  const auto head = ParseHead(Buffered().substr(0, size), {.max_target_bytes = options_->max_target_bytes});
  if (!head) co_return co_await Refuse(head.error().status, head.error().message, "");
  TakeHead(*head);
  if (head->content_length.value_or(0) > options_->max_body_bytes) co_return co_await RefuseSize();
  const RequestHead facts{.http10 = head->http10,
                          .content_length = head->content_length,
                          .chunked = head->chunked,
                          .keep_alive = head->keep_alive,
                          .expects_continue = head->expects_continue};
  buffer_.consume(size);  // the views are gone
  const Read body = co_await ReadBody(facts);
  if (body == Read::kRequest) keep_alive_ = facts.keep_alive;
  co_return body;
}

void Connection::TakeHead(const RequestHead& head) {
  http10_ = head.http10;
  head_only_ = head.method == "HEAD";
  request_.method = head.method;
  const size_t question = head.target.find('?');
  request_.path = head.target.substr(0, question);
  if (question != std::string_view::npos) request_.query = head.target.substr(question + 1);
  request_.headers.reserve(head.fields.size());
  for (const auto& field : head.fields) {
    request_.headers.emplace_back(field.name, field.value);
    if (EqualsIgnoringCase(field.name, "X-Request-Id") && IsGoodId(field.value)) request_.id = field.value;
  }
}

Task<Connection::Read> Connection::ReadBody(const RequestHead& head) {
  if (!head.chunked && head.content_length.value_or(0) == 0) co_return Read::kRequest;
  if (head.expects_continue && buffer_.size() == 0) {
    if (!co_await Send("HTTP/1.1 100 Continue\r\n\r\n")) co_return Read::kClosed;
  }
  const Limit limit(*this, options_->body_timeout);
  if (head.chunked) co_return co_await ReadChunked();
  co_return co_await ReadFixed(*head.content_length);
}

// Straight into the body; memory grows with what has come, not with what was announced.
Task<Connection::Read> Connection::ReadFixed(uint64_t length) {
  std::string& body = request_.body;
  const size_t there = std::min<uint64_t>(length, buffer_.size());
  body.reserve(std::min<uint64_t>(length, kBodyStep));
  body.append(Buffered().substr(0, there));
  buffer_.consume(there);
  while (body.size() < length) {
    const size_t before = body.size();
    const size_t step = std::min<uint64_t>(length - before, std::max(kBodyStep, before));
    if (before + step > body.capacity()) body.reserve(std::min<uint64_t>(length, kBodyGrowth * before));
    body.resize_and_overwrite(before + step, [](char*, size_t n) { return n; });
    const auto [ec, n] = co_await stream_.Read(asio::buffer(body.data() + before, step));
    body.resize(before + n);
    if (ec) co_return co_await AfterFailedRead();
  }
  co_return Read::kRequest;
}

Task<Connection::Read> Connection::ReadChunked() {
  ChunkedDecoder decoder(options_->max_body_bytes);
  while (true) {
    size_t used = 0;
    const auto state = decoder.Feed(Buffered(), used, request_.body);
    buffer_.consume(used);
    if (state == ChunkedDecoder::State::kDone) co_return Read::kRequest;
    if (state == ChunkedDecoder::State::kTooLarge) co_return co_await RefuseSize();
    if (state == ChunkedDecoder::State::kMalformed)
      co_return co_await Refuse(400, "The request's body is malformed.", "");
    if (!co_await Fill(kBodyStep)) co_return co_await AfterFailedRead();
  }
}

Task<Connection::Read> Connection::AfterFailedRead() {
  if (!limit_.passed()) co_return Read::kClosed;
  co_return co_await Refuse(408, "The request took too long to arrive.", "");
}

Task<Connection::Read> Connection::RefuseSize() {
  const std::string message =
      fmt::format("The request is too large: {} bytes are allowed.", options_->max_body_bytes);
  co_return co_await Refuse(413, message, "request_too_large");
}

Task<Connection::Read> Connection::Refuse(int status, std::string_view text, std::string_view code) {
  const std::string message(text);
  answered_ = false;
  keep_alive_ = false;
  Log()->info("{} -> {}: {}", request_.id, status, message);
  co_await Respond(options_->error(request_, status, message, code));
  co_await Linger();
  co_return Read::kAnswered;
}

// The client may still be sending: closing now would reset the connection before it has read the answer.
Task<> Connection::Linger() {
  const Limit limit(*this, kLinger);
  co_await stream_.ShutdownSend();
  std::string scrap(16 << 10, '\0');
  for (size_t total = 0; total < kLingerBytes;) {
    ByteStream::Error ec;
    auto [wait_ec] = co_await stream_.socket().async_wait(ByteStream::Socket::wait_read, kTuple);
    const size_t n = wait_ec ? 0 : stream_.socket().read_some(asio::buffer(scrap), ec);
    if (wait_ec || ec || n == 0) co_return;
    total += n;
  }
}

// ---- writing

std::string Connection::Head(const HttpResponse& response, bool chunked) const {
  std::string head;
  head.reserve(512);
  fmt::format_to(std::back_inserter(head), "HTTP/1.1 {} {}\r\nServer: cy-llm\r\n", response.status,
                 ReasonPhrase(response.status));
  if (!response.content_type.empty() && response.status != 204)
    head += "Content-Type: " + response.content_type + "\r\n";
  for (const auto& [name, value] : response.headers) head += name + ": " + value + "\r\n";
  head += "X-Request-Id: " + request_.id + "\r\n";
  head += added_headers_;
  if (chunked) {
    head += "Transfer-Encoding: chunked\r\n";
  } else if (!streaming_ && response.status != 204) {
    fmt::format_to(std::back_inserter(head), "Content-Length: {}\r\n", response.body.size());
  }
  if (!keep_alive_) {
    head += "Connection: close\r\n";
  } else {
    if (http10_) head += "Connection: keep-alive\r\n";
    fmt::format_to(std::back_inserter(head), "Keep-Alive: timeout={}\r\n",
                   std::chrono::duration_cast<std::chrono::seconds>(options_->idle_timeout).count());
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
  std::string_view left = data;
  while (!left.empty()) {
    // The limit is for progress, not for the whole: it starts anew with every part the kernel takes.
    std::optional<Limit> limit;
    const auto [ec, n] = co_await stream_.Write(asio::buffer(left.data(), left.size()),
                                                [&] { limit.emplace(*this, options_->write_stall); });
    if (ec) {
      Gone();
      co_return false;
    }
    left.remove_prefix(n);
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
  stream_.Watch(buffer_.prepare(kIdleBuffer), stop_watching_.slot(), [this](ByteStream::Error ec, size_t n) {
    watching_ = false;
    buffer_.commit(n);
    if (ec && ec != asio::error::operation_aborted) Gone();
    if (!ec && on_hangup_) Watch();  // a byte of the next request is no reason to stop looking
    if (!watching_) watch_ended_.Notify();
  });
}

Task<> Connection::Unwatch() {
  if (watching_) stop_watching_.emit(asio::cancellation_type::terminal);
  while (watching_) co_await watch_ended_.Wait();
}

}  // namespace cyllm
