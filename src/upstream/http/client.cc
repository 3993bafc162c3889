#include "upstream/http/client.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <charconv>

namespace cyllm {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

namespace {

constexpr size_t kReadSize = 32 * 1024;
constexpr uint64_t kMaxBody = 1u << 30;

Status NoHttp() {
  Status status = MakeStatus(Code::kInternal, "the model's server gave an answer that cannot be read",
                             "upstream_garbage");
  status.retryable = true;
  return status;
}

// Seconds, or a date (then: nothing known).
Millis Seconds(std::string_view text) {
  double seconds = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (ec != std::errc() || end != text.data() + text.size() || !(seconds >= 0)) return Millis(0);
  return Millis(static_cast<int64_t>(std::min(seconds, 86'400.0) * 1000));
}

// "timeout=5, max=100": how long the server keeps idle connections. 0: not told.
Millis KeepAliveLimit(std::string_view header) {
  const size_t at = header.find("timeout=");
  if (at == header.npos) return Millis(0);
  header.remove_prefix(at + 8);
  return Seconds(header.substr(0, header.find_first_not_of("0123456789")));
}

}  // namespace

class Answer final : public ClientAnswer {
 public:
  Answer(std::shared_ptr<HttpClient> client, std::unique_ptr<ServerConnection> connection)
      : client_(std::move(client)), connection_(std::move(connection)) {
    Begin();
  }
  ~Answer() override {
    if (parser_->is_done() && parser_->keep_alive() && buffer_.size() == 0)
      client_->Keep(std::move(connection_), KeepAliveLimit(parser_->get()[http::field::keep_alive]));
  }

  // The head. `silent`: set when not even a byte came.
  Task<Status> ReadHead(TimePoint until, bool& silent) {
    silent = true;
    while (!parser_->is_header_done()) {
      if (Status status = co_await Fill(until); !status.ok()) co_return status;
      silent = false;
      if (!Parse()) co_return NoHttp();
      if (parser_->is_header_done() && parser_->get().result_int() / 100 == 1) {
        if (parser_->get().result_int() == 101) co_return NoHttp();
        pieces_.clear();  // 100 Continue: the answer is yet to come
        Begin();
        if (buffer_.size() > 0 && !Parse()) co_return NoHttp();
      }
    }
    const auto& head = parser_->get();
    status = static_cast<int>(head.result_int());
    event_stream = std::string_view(head[http::field::content_type]).starts_with("text/event-stream");
    retry_after = Seconds(std::string_view(head[http::field::retry_after]));
    co_return Status::Ok();
  }

  Task<Result<std::string>> Read(TimePoint until) override {
    while (pieces_.empty()) {
      if (parser_->is_done()) co_return std::string();
      Status status = co_await Fill(until);
      if (!status.ok()) {
        if (status.reason != kClosed) co_return Err(std::move(status));
        error_code ec;  // a body without length ends with its connection
        if (!parser_->need_eof()) co_return Err(std::move(status));
        parser_->put_eof(ec);
        if (ec) co_return Err(std::move(status));
        continue;
      }
      if (!Parse()) co_return Err(NoHttp());
    }
    co_return std::exchange(pieces_, {});
  }

 private:
  using Parser = http::response_parser<http::string_body>;

  void Begin() {
    parser_.emplace();
    parser_->body_limit(kMaxBody);
    parser_->header_limit(client_->options_.max_header_bytes);
    parser_->eager(true);
  }

  Task<Status> Fill(TimePoint until) {
    const auto space = buffer_.prepare(kReadSize);
    const Result<size_t> n =
        co_await connection_->Read(static_cast<char*>(space.data()), space.size(), until);
    if (!n) co_return n.error();
    buffer_.commit(*n);
    co_return Status::Ok();
  }

  // Feeds the parser with what has come and takes out what it has of the body.
  bool Parse() {
    while (buffer_.size() > 0 && !parser_->is_done()) {
      error_code ec;
      const size_t used = parser_->put(buffer_.data(), ec);
      buffer_.consume(used);
      if (ec && ec != http::error::need_more) return false;
      if (parser_->is_header_done()) pieces_ += std::exchange(parser_->get().body(), {});
      if (ec || used == 0) break;
    }
    return true;
  }

  const std::shared_ptr<HttpClient> client_;
  std::unique_ptr<ServerConnection> connection_;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  std::string pieces_;
};

HttpClient::HttpClient(ClientOptions options, Executor home)
    : options_(std::move(options)), home_(home), trim_(home) {}

HttpClient::~HttpClient() = default;

Task<Result<std::unique_ptr<ClientAnswer>>> HttpClient::Send(ClientCall call) {
  const auto self = shared_from_this();
  std::string head =
      fmt::format("{} {}{} HTTP/1.1\r\nHost: {}\r\nAccept: application/json, text/event-stream\r\n",
                  call.method, options_.url.base, call.path, options_.url.HostHeader());
  if (!options_.bearer.empty())
    fmt::format_to(std::back_inserter(head), "Authorization: Bearer {}\r\n", options_.bearer);
  if (call.method != "GET")
    fmt::format_to(std::back_inserter(head), "Content-Type: application/json\r\nContent-Length: {}\r\n",
                   call.body.size());
  head += call.headers;
  head += "\r\n";
  while (true) {
    std::unique_ptr<ServerConnection> connection = TakeIdle();
    const bool reused = connection != nullptr;
    if (!reused) {
      connection = std::make_unique<ServerConnection>(home_);
      ++opened_;
      const TimePoint until = std::min(call.answer_by, After(Clock::now(), options_.connect_timeout));
      Status status = co_await connection->Open(options_.url, options_.tls.get(), until);
      if (!status.ok()) {
        status.reason = kUnreachable;
        co_return Err(std::move(status));
      }
    }
    Status status = co_await connection->Write(head, call.body, call.answer_by);
    bool silent = true;
    auto answer = std::make_unique<Answer>(self, std::move(connection));
    // A server may refuse, and close, before it has read all: its answer counts.
    if (status.ok() || status.reason == kClosed) {
      const Status written = std::move(status);
      status = co_await answer->ReadHead(call.answer_by, silent);
      if (!status.ok() && silent && !written.ok()) status = written;
    }
    if (status.ok()) co_return std::unique_ptr<ClientAnswer>(std::move(answer));
    if (!reused || !silent || status.reason != kClosed) co_return Err(std::move(status));
    CloseIdle();  // its like are probably dead too
  }
}

void HttpClient::CloseIdle() { idle_.clear(); }

void HttpClient::Keep(std::unique_ptr<ServerConnection> connection, Millis server_limit) {
  Millis keep = options_.keep_idle;
  if (server_limit.count() > 0)
    keep = std::min(keep, std::max(server_limit - Millis(1'000), server_limit / 2));
  if (keep.count() <= 0 || idle_.size() >= options_.max_idle) return;
  idle_.push_back({std::move(connection), After(Clock::now(), keep)});
  if (idle_.size() == 1) Trim();
}

std::unique_ptr<ServerConnection> HttpClient::TakeIdle() {
  const TimePoint now = Clock::now();
  while (!idle_.empty()) {
    Idle last = std::move(idle_.back());
    idle_.pop_back();
    if (last.until > now && !last.connection->Stale()) return std::move(last.connection);
  }
  return nullptr;
}

// Closes what is due, and comes back while something is left.
void HttpClient::Trim() {
  const TimePoint now = Clock::now();
  std::erase_if(idle_, [&](const Idle& idle) { return idle.until <= now; });
  if (idle_.empty()) return;
  trim_.expires_at(std::ranges::min_element(idle_, {}, &Idle::until)->until);
  trim_.async_wait([weak = weak_from_this()](error_code ec) {
    const auto self = weak.lock();
    if (self && !ec) self->Trim();
  });
}

Task<Result<std::string>> ReadAll(ClientAnswer& answer, size_t limit, TimePoint until) {
  std::string body;
  while (true) {
    Result<std::string> piece = co_await answer.Read(until);
    if (!piece) co_return Err(piece.error());
    if (piece->empty()) co_return body;
    body += *piece;
    if (body.size() > limit) co_return Err(NoHttp());
  }
}

}  // namespace cyllm
