#include "gateway/http/server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "async/scope.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "gateway/http/connection.h"

namespace cyllm {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

// Connections that are being told that there is no room, with time to listen; more are told in passing.
constexpr size_t kTurnedAway = 64;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

Result<tcp::endpoint> Resolve(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  std::string host = listen.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  asio::io_context context;
  tcp::resolver resolver(context);
  boost::system::error_code ec;
  const auto found = resolver.resolve(host, colon == std::string::npos ? "" : listen.substr(colon + 1),
                                      tcp::resolver::passive | tcp::resolver::numeric_service, ec);
  if (ec || found.empty())
    return Err(
        InvalidArgument("cannot listen on '" + listen + "': " + (ec ? ec.message() : "no such address")));
  return found.begin()->endpoint();
}

Result<ByteStream::TlsContext> MakeTls(const HttpServerOptions& options) {
  if (!options.tls()) return ByteStream::TlsContext();
  namespace ssl = asio::ssl;
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  boost::system::error_code ec;
  context->set_options(ssl::context::default_workarounds | ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1 |
                           ssl::context::no_compression,
                       ec);
  SSL_CTX_set_mode(context->native_handle(), SSL_MODE_RELEASE_BUFFERS);  // idle connections are many
  const auto fail = [&](const std::string& file) {
    return Err(InvalidArgument("cannot use " + file + " for TLS: " + ec.message()));
  };
  context->use_certificate_chain_file(options.tls_certificate, ec);
  if (ec) return fail(options.tls_certificate);
  context->use_private_key_file(options.tls_key, ssl::context::pem, ec);
  if (ec) return fail(options.tls_key);
  return context;
}

}  // namespace

struct HttpServer::Impl {
  Impl(HttpServerOptions o, IoPool& p, HttpHandler h)
      : options(std::make_shared<const HttpServerOptions>(std::move(o))),
        pool(p),
        handler(std::move(h)),
        acceptor(p.At(0)),
        room(p.At(0)),
        open(options->metrics.empty() ? nullptr : &Gauge(options->metrics, "Open HTTP connections")) {}

  Task<> Accept() {
    while (!draining) {
      if (count >= Options().first->max_connections) {
        co_await room.Wait();
        continue;
      }
      const Executor home = pool.Next();
      auto [ec, socket] = co_await acceptor.async_accept(home, kTuple);
      if (ec) {
        if (draining || ec == asio::error::operation_aborted || ec == asio::error::bad_descriptor) co_return;
        if (ec != asio::error::connection_aborted) {
          Log()->warn("accept: {}", ec.message());  // out of descriptors: it passes
          co_await SleepUntil(Clock::now() + Millis(50));
        }
        continue;
      }
      const asio::ip::address peer = socket.remote_endpoint(ec).address();
      const auto [now, context] = Options();
      std::shared_ptr<Connection> connection;
      bool full = false, in_passing = false;
      {
        MutexLock lock(mutex);
        const auto of_peer = per_address.find(peer);
        full = now->max_connections_per_address > 0 && of_peer != per_address.end() &&
               of_peer->second >= now->max_connections_per_address;
        connection = std::make_shared<Connection>(std::move(socket), context, home, now, handler, draining);
        if (full && turned_away.size() >= kTurnedAway) {
          in_passing = true;
        } else if (full) {
          turned_away.insert(connection);
        } else {
          ++per_address[peer];
          connections.emplace(connection, peer);
        }
      }
      if (in_passing) {
        connection->TurnAwayAtOnce();
        continue;
      }
      if (full) {
        if (!scope.Spawn(home, TurnAway(connection))) ForgetTurnedAway(connection);
        continue;
      }
      ++count;
      if (open) open->Increment();
      if (!scope.Spawn(home, Serve(connection))) Forget(connection);
    }
  }

  Task<> CloseAcceptor() {
    boost::system::error_code ignored;
    acceptor.close(ignored);
    co_return;
  }

  Task<> Serve(std::shared_ptr<Connection> connection) {
    co_await connection->Run();
    Forget(connection);
  }

  Task<> TurnAway(std::shared_ptr<Connection> connection) {
    co_await connection->TurnAway();
    ForgetTurnedAway(connection);
  }

  void ForgetTurnedAway(const std::shared_ptr<Connection>& connection) {
    MutexLock lock(mutex);
    turned_away.erase(connection);
  }

  void Forget(const std::shared_ptr<Connection>& connection) {
    {
      MutexLock lock(mutex);
      const auto it = connections.find(connection);
      if (const auto peer = per_address.find(it->second); --peer->second == 0) per_address.erase(peer);
      connections.erase(it);
      if (connections.empty()) empty.NotifyAll();
    }
    if (open) open->Decrement();
    if (count-- >= Options().first->max_connections) room.Notify();
  }

  std::pair<std::shared_ptr<const HttpServerOptions>, ByteStream::TlsContext> Options() {
    MutexLock lock(mutex);
    return {options, tls};
  }

  void ForEach(void (Connection::*f)()) {
    MutexLock lock(mutex);
    const auto call = [&](const std::shared_ptr<Connection>& connection) {
      Post(connection->home(), [connection, f] { (connection.get()->*f)(); });
    };
    for (const auto& [connection, peer] : connections) call(connection);
    for (const auto& connection : turned_away) call(connection);
  }

  Mutex mutex;
  std::shared_ptr<const HttpServerOptions> options CY_GUARDED_BY(mutex);
  ByteStream::TlsContext tls CY_GUARDED_BY(mutex);
  IoPool& pool;
  const HttpHandler handler;
  tcp::acceptor acceptor;
  Signal room;
  std::string address;
  std::atomic<bool> draining{false};
  std::atomic<size_t> count{0};
  prometheus::Gauge* const open;
  CondVar empty;
  std::unordered_map<std::shared_ptr<Connection>, asio::ip::address> connections CY_GUARDED_BY(mutex);
  std::unordered_set<std::shared_ptr<Connection>> turned_away CY_GUARDED_BY(mutex);
  std::map<asio::ip::address, size_t> per_address CY_GUARDED_BY(mutex);
  Scope scope;
};

HttpServer::HttpServer(HttpServerOptions options, IoPool& pool, HttpHandler handler)
    : impl_(std::make_unique<Impl>(std::move(options), pool, std::move(handler))) {}

HttpServer::~HttpServer() { Stop(); }

Status HttpServer::Start() {
  const auto options = impl_->Options().first;
  const Result<tcp::endpoint> endpoint = Resolve(options->listen);
  if (!endpoint) return endpoint.error();
  if (Status status = Reload(*options); !status.ok()) return status;
  boost::system::error_code ec;
  tcp::acceptor& acceptor = impl_->acceptor;
  acceptor.open(endpoint->protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor.bind(*endpoint, ec);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (ec) return MakeStatus(Code::kUnavailable, "cannot listen on " + options->listen + ": " + ec.message());
  const tcp::endpoint local = acceptor.local_endpoint(ec);
  const std::string host = local.address().to_string();
  impl_->address = (local.address().is_v6() ? "[" + host + "]" : host) + ":" + std::to_string(local.port());
  impl_->scope.Spawn(impl_->pool.At(0), impl_->Accept());
  return Status::Ok();
}

std::string HttpServer::address() const { return impl_->address; }

Status HttpServer::Reload(HttpServerOptions options) {
  Result<ByteStream::TlsContext> tls = MakeTls(options);
  if (!tls) return tls.error();
  MutexLock lock(impl_->mutex);
  if (options.tls() != impl_->options->tls())
    return InvalidArgument("whether connections are encrypted can only change with a new start");
  impl_->options = std::make_shared<const HttpServerOptions>(std::move(options));
  impl_->tls = std::move(*tls);
  impl_->room.Notify();
  return Status::Ok();
}

void HttpServer::BeginDrain() {
  if (impl_->draining.exchange(true)) return;
  impl_->scope.Spawn(impl_->pool.At(0), impl_->CloseAcceptor());
  impl_->room.Notify();
  impl_->ForEach(&Connection::CloseIfIdle);
}

bool HttpServer::WaitIdle(TimePoint until) {
  MutexLock lock(impl_->mutex);
  while (!impl_->connections.empty()) {
    if (until == kNever) {
      impl_->empty.Wait(impl_->mutex);
    } else if (!impl_->empty.WaitUntil(impl_->mutex, until)) {
      return impl_->connections.empty();
    }
  }
  return true;
}

void HttpServer::Stop() {
  BeginDrain();
  impl_->scope.Close();
  impl_->ForEach(&Connection::Abort);
  impl_->scope.Join();
}

}  // namespace cyllm
