#include "cli/status_http.h"

#include <boost/json.hpp>

#include "base/metrics.h"
#include "base/mutex.h"
#include "gateway/http/server.h"

namespace cyllm {

struct StatusHttp::Impl {
  explicit Impl(std::function<Snapshot()> d) : describe(std::move(d)) {}

  HttpResponse Ready() {
    Snapshot snapshot = describe();
    MutexLock lock(mutex);
    if (!not_ready.empty()) {
      snapshot.ready = false;
      snapshot.not_ready_reasons = {not_ready};
    }
    if (snapshot.ready) return {200, R"({"status":"ready"})", "application/json", {}};
    boost::json::array reasons(snapshot.not_ready_reasons.begin(), snapshot.not_ready_reasons.end());
    const boost::json::object body = {{"status", "not ready"}, {"reasons", std::move(reasons)}};
    return {503, boost::json::serialize(body), "application/json", {}};
  }

  HttpResponse Answer(const HttpRequest& request) {
    if (handler && (request.path == prefix || request.path.starts_with(prefix + "/")))
      return handler(request);
    if (request.method != "GET" && request.method != "HEAD") return PlainError(405, "only GET and HEAD", {});
    if (request.path == "/health" || request.path == "/healthz")
      return {200, R"({"status":"ok"})", "application/json", {}};
    if (request.path == "/ready") return Ready();
    if (request.path == "/metrics")
      return {200, RenderMetrics(), "text/plain; version=0.0.4; charset=utf-8", {}};
    return PlainError(404, "known: /health, /healthz, /ready, /metrics", {});
  }

  const std::function<Snapshot()> describe;
  std::string prefix;
  Handler handler;
  IoPool pool{1, "status"};
  Mutex mutex;
  std::string not_ready CY_GUARDED_BY(mutex);
  std::unique_ptr<HttpServer> server;
};

StatusHttp::StatusHttp(std::function<Snapshot()> describe)
    : impl_(std::make_unique<Impl>(std::move(describe))) {}

StatusHttp::~StatusHttp() { Stop(); }

void StatusHttp::Serve(std::string prefix, Handler handler) {
  impl_->prefix = std::move(prefix);
  impl_->handler = std::move(handler);
}

Status StatusHttp::Start(const std::string& listen) {
  HttpServerOptions options;
  options.listen = listen;
  options.max_header_bytes = 8u << 10;
  options.max_body_bytes = 16u << 10;
  options.max_connections = 256;
  options.idle_timeout = Millis(60'000);
  impl_->server =
      std::make_unique<HttpServer>(options, impl_->pool, [this](HttpExchange& exchange) -> Task<> {
        co_await exchange.Respond(impl_->Answer(exchange.request()));
      });
  return impl_->server->Start();
}

std::string StatusHttp::address() const { return impl_->server->address(); }

void StatusHttp::SayNotReady(const std::string& why) {
  MutexLock lock(impl_->mutex);
  impl_->not_ready = why;
}

void StatusHttp::Stop() {
  if (impl_->server) impl_->server->Stop();
}

}  // namespace cyllm
