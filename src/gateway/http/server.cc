#include "gateway/http/server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
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

}  // namespace

struct HttpServer::Impl {
  Impl(HttpServerOptions o, IoPool& p, HttpHandler h)
      : options(std::move(o)),
        pool(p),
        handler(std::move(h)),
        acceptor(p.At(0)),
        room(p.At(0)),
        open(options.metrics.empty() ? nullptr : &Gauge(options.metrics, "Open HTTP connections")) {}

  Task<> Accept() {
    while (!draining) {
      if (count >= options.max_connections) {
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
      ++count;
      auto connection = std::make_shared<Connection>(std::move(socket), home, options, handler, draining);
      {
        MutexLock lock(mutex);
        connections.insert(connection);
      }
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

  void Forget(const std::shared_ptr<Connection>& connection) {
    {
      MutexLock lock(mutex);
      connections.erase(connection);
      if (connections.empty()) empty.NotifyAll();
    }
    if (open) open->Decrement();
    if (count-- == options.max_connections) room.Notify();
  }

  void ForEach(void (Connection::*f)()) {
    MutexLock lock(mutex);
    for (const auto& connection : connections) {
      Post(connection->home(), [connection, f] { (connection.get()->*f)(); });
    }
  }

  const HttpServerOptions options;
  IoPool& pool;
  const HttpHandler handler;
  tcp::acceptor acceptor;
  Signal room;
  std::string address;
  std::atomic<bool> draining{false};
  std::atomic<size_t> count{0};
  prometheus::Gauge* const open;
  Mutex mutex;
  CondVar empty;
  std::unordered_set<std::shared_ptr<Connection>> connections CY_GUARDED_BY(mutex);
  Scope scope;
};

HttpServer::HttpServer(HttpServerOptions options, IoPool& pool, HttpHandler handler)
    : impl_(std::make_unique<Impl>(std::move(options), pool, std::move(handler))) {}

HttpServer::~HttpServer() { Stop(); }

Status HttpServer::Start() {
  const Result<tcp::endpoint> endpoint = Resolve(impl_->options.listen);
  if (!endpoint) return endpoint.error();
  boost::system::error_code ec;
  tcp::acceptor& acceptor = impl_->acceptor;
  acceptor.open(endpoint->protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor.bind(*endpoint, ec);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (ec)
    return MakeStatus(Code::kUnavailable, "cannot listen on " + impl_->options.listen + ": " + ec.message());
  const tcp::endpoint local = acceptor.local_endpoint(ec);
  const std::string host = local.address().to_string();
  impl_->address = (local.address().is_v6() ? "[" + host + "]" : host) + ":" + std::to_string(local.port());
  impl_->scope.Spawn(impl_->pool.At(0), impl_->Accept());
  return Status::Ok();
}

std::string HttpServer::address() const { return impl_->address; }

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
