#include "gateway/gateway.h"

#include <fmt/format.h>

#include "async/signal.h"
#include "base/log.h"
#include "base/utf8.h"
#include "gateway/access/tokens.h"
#include "gateway/error_response.h"
#include "gateway/gateway_metrics.h"
#include "gateway/http/server.h"
#include "gateway/inference_call.h"
#include "gateway/routes.h"
#include "inference/prefix_hash.h"

namespace cyllm {

namespace {

// The message of a refused request quotes what the client sent, which may be a prompt: not for the log.
std::string Loggable(const Status& status) {
  if (status.code != Code::kInvalidArgument) return status.ToString();
  std::string text(CodeName(status.code));
  if (!status.param.empty()) text += " '" + JsonEscape(std::string_view(status.param).substr(0, 100)) + "'";
  if (!status.reason.empty()) text += " (" + status.reason + ")";
  return text;
}

// %2F in model ids, and whatever else clients escape.
std::string PercentDecoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size() && std::isxdigit(static_cast<unsigned char>(text[i + 1])) &&
        std::isxdigit(static_cast<unsigned char>(text[i + 2]))) {
      value = static_cast<unsigned>(std::stoul(std::string(text.substr(i + 1, 2)), nullptr, 16));
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// Of what never became a request.
HttpResponse Malformed(int status, std::string_view message, std::string_view code) {
  return ToResponse(dialect::FromHttp(status, message, code), DialectOf(""), "");
}

}  // namespace

struct Gateway::Impl {
  Impl(GatewayOptions o, IoPool& pool, std::shared_ptr<InferenceService> s)
      : options(std::move(o)),
        service(std::move(s)),
        tokens(options.api_tokens),
        admin_key({options.admin_key}),
        server(HttpOptions(options), pool, [this](HttpExchange& exchange) { return Handle(exchange); }) {}

  static HttpServerOptions HttpOptions(const GatewayOptions& o) {
    HttpServerOptions http;
    http.listen = o.listen;
    http.max_header_bytes = o.max_header_bytes;
    http.max_body_bytes = o.max_body_bytes;
    http.max_connections = o.max_connections;
    http.header_timeout = o.header_timeout;
    http.body_timeout = o.body_timeout;
    http.idle_timeout = o.idle_timeout;
    http.write_stall = o.write_stall;
    http.metrics = "gateway_open_connections";
    http.error = Malformed;
    return http;
  }

  Task<> Handle(HttpExchange& exchange) {
    const TimePoint start = Clock::now();
    HttpRequest request = exchange.TakeRequest();
    std::string_view rest;
    const Route* route = FindRoute(request.path, rest);
    CallOutcome outcome;
    std::string model;
    if (options.admin && (request.path == "/workers" || request.path.starts_with("/workers/"))) {
      co_await Respond(exchange, co_await Admin(exchange.home(), request), outcome);
    } else if (std::optional<HttpResponse> refusal = Refusal(request, route)) {
      co_await Respond(exchange, std::move(*refusal), outcome);
    } else if (route->reply) {
      co_await Respond(exchange, route->reply({request, PercentDecoded(rest), *service, draining}), outcome);
    } else {
      outcome = co_await Inference(exchange, request, *route, model);
    }
    Count(request, route, model, outcome, Clock::now() - start);
  }

  Task<HttpResponse> Admin(Executor home, const HttpRequest& request) {
    if (!admin_key.Allows(TokenOf(request.Header("Authorization"), request.Header("X-Api-Key"))))
      co_return HttpResponse{401, R"({"error":{"message":"a valid admin key is needed"}})"};
    struct Answer {
      explicit Answer(Executor home) : done(std::move(home)) {}
      Signal done;
      HttpResponse response;
    };
    auto answer = std::make_shared<Answer>(std::move(home));
    Post(admin_pool.At(0), [answer, request, ask = options.admin] {
      answer->response = ask(request);
      answer->done.Notify();
    });
    co_await answer->done.Wait();
    co_return std::move(answer->response);
  }

  static Task<> Respond(HttpExchange& exchange, HttpResponse response, CallOutcome& outcome) {
    outcome.http = response.status;
    if (!co_await exchange.Respond(std::move(response))) outcome.end = MakeStatus(Code::kCancelled, "");
  }

  // What is said before anybody looks at the body.
  std::optional<HttpResponse> Refusal(const HttpRequest& request, const Route* route) const {
    const dialect::Dialect& dialect = route ? *route->dialect : DialectOf(request.path);
    const auto refuse = [&](int http, std::string_view message, std::string_view code) {
      return ToResponse(dialect::FromHttp(http, message, code), dialect, request.id);
    };
    if (!route) {
      if (request.method == "OPTIONS") return HttpResponse{204, "", "", {}};
      return refuse(404, "There is nothing at this path.", "not_found");
    }
    if (request.method == "OPTIONS")
      return HttpResponse{204, "", "", {{"Allow", std::string(route->methods)}}};
    if (!HasMethod(route->methods, request.method)) {
      HttpResponse response = refuse(405, "This method is not allowed here.", "method_not_allowed");
      response.headers.emplace_back("Allow", route->methods);
      return response;
    }
    const bool open =
        route->access == Access::kOpen || (route->access == Access::kModels && !options.models_need_token);
    if (!open && !Allowed(request)) return refuse(401, "A valid API key is needed.", "invalid_api_key");
    return std::nullopt;
  }

  static bool HasMethod(std::string_view methods, std::string_view method) {
    const size_t at = methods.find(method);
    return at != std::string_view::npos && (at == 0 || methods[at - 1] == ' ') &&
           (at + method.size() == methods.size() || methods[at + method.size()] == ',');
  }

  bool Allowed(const HttpRequest& request) const {
    return tokens.open() ||
           tokens.Allows(TokenOf(request.Header("Authorization"), request.Header("X-Api-Key")));
  }

  // What the caller says of its place: the worker it would like, and whom to stay with (else: its key).
  static void PutRouting(const HttpRequest& request, RequestFacts& facts) {
    constexpr size_t kLongest = 256;
    facts.worker_hint = std::string(request.Header("x-cy-worker").substr(0, kLongest));
    std::string_view key = request.Header("x-cy-affinity");
    if (key.empty()) key = TokenOf(request.Header("Authorization"), request.Header("X-Api-Key"));
    facts.affinity = key.empty() ? 0 : Hash64(key);
  }

  Task<CallOutcome> Inference(HttpExchange& exchange, HttpRequest& request, const Route& route,
                              std::string& model) {
    CallOutcome outcome;
    Result<dialect::Call> call = Parse(request, route);
    if (!call) {
      outcome.end = call.error();
      co_await Respond(exchange, ToResponse(dialect::FromStatus(call.error()), *route.dialect, request.id),
                       outcome);
      co_return outcome;
    }
    model = call->model;
    Context context;
    context.home = exchange.home();
    context.request_id = request.id;
    context.traceparent = std::string(request.Header("traceparent"));
    context.tracestate = std::string(request.Header("tracestate"));
    for (Request& one : call->requests) PutRouting(request, one.facts);
    request.body = {};
    InferenceCall run(options, *service, exchange, *route.dialect);
    metrics.running.Increment();
    outcome = co_await run.Run(std::move(*call), std::move(context));
    metrics.running.Decrement();
    co_return outcome;
  }

  Result<dialect::Call> Parse(const HttpRequest& request, const Route& route) const {
    if (draining) return Err(Unavailable("The server is shutting down.", "draining"));
    if (route.dialect->needs_json_type && !IsJson(request.Header("Content-Type")))
      return Err(InvalidArgument("The Content-Type must be application/json.", {}, "unsupported_media_type"));
    return route.parse(request.body, {.max_choices = options.max_choices});
  }

  // No Content-Type at all is taken as JSON.
  static bool IsJson(std::string_view type) {
    return type.empty() || type.starts_with("application/json") || type.starts_with("text/json") ||
           type.find("+json") != std::string_view::npos;
  }

  void Count(const HttpRequest& request, const Route* route, const std::string& model,
             const CallOutcome& outcome, Clock::duration took) {
    metrics.Count(route ? route->path : "other", outcome, took);
    const auto ms = std::chrono::duration<double, std::milli>(took).count();
    const bool probe = route && route->access == Access::kOpen;
    const auto level = outcome.http >= 500 ? spdlog::level::warn
                       : probe             ? spdlog::level::debug
                                           : spdlog::level::info;
    if (!Log()->should_log(level)) return;
    std::string line =
        fmt::format("{} {} {} -> {} in {:.1f} ms", request.id, request.method,
                    JsonEscape(std::string_view(request.path).substr(0, 200)), outcome.http, ms);
    if (!model.empty()) {
      line += fmt::format(", model {}, {}+{} tokens", JsonEscape(std::string_view(model).substr(0, 100)),
                          outcome.totals.prompt_tokens, outcome.totals.completion_tokens);
    }
    if (const std::string route = outcome.route.Text(); !route.empty()) line += ", " + route;
    if (!outcome.end.ok()) line += ": " + Loggable(outcome.end);
    Log()->log(level, "{}", line);
  }

  const GatewayOptions options;
  const std::shared_ptr<InferenceService> service;
  const TokenSet tokens, admin_key;
  IoPool admin_pool{1, "admin"};
  GatewayMetrics metrics;
  std::atomic<bool> draining{false};
  HttpServer server;
};

Gateway::Gateway(GatewayOptions options, IoPool& pool, std::shared_ptr<InferenceService> service)
    : impl_(std::make_unique<Impl>(std::move(options), pool, std::move(service))) {}

Gateway::~Gateway() { Stop(); }

Status Gateway::Start() { return impl_->server.Start(); }

std::string Gateway::address() const { return impl_->server.address(); }

bool Gateway::Drain(TimePoint until) {
  impl_->draining = true;
  impl_->server.BeginDrain();
  return impl_->server.WaitIdle(until);
}

void Gateway::Stop() { impl_->server.Stop(); }

}  // namespace cyllm
