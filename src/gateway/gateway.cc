#include "gateway/gateway.h"

#include <fmt/format.h>

#include <unordered_set>

#include "async/signal.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/utf8.h"
#include "gateway/access/cors.h"
#include "gateway/access/tokens.h"
#include "gateway/error_response.h"
#include "gateway/gateway_metrics.h"
#include "gateway/http/server.h"
#include "gateway/inference_call.h"
#include "gateway/model_policy.h"
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

// For the errors of what still runs when draining ends.
constexpr std::chrono::seconds kLastWords{1};

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

}  // namespace

// The options, and what is made of them; replaced as a whole.
struct Policy {
  explicit Policy(GatewayOptions o)
      : options(std::move(o)),
        tokens(options.api_tokens),
        admin_key({options.admin_key}),
        cors(options.cors_origins.empty() && !options.api_tokens.empty() ? std::vector<std::string>{"*"}
                                                                         : options.cors_origins) {}

  const GatewayOptions options;
  const TokenSet tokens, admin_key;
  const CorsPolicy cors;
};

struct Gateway::Impl {
  Impl(GatewayOptions o, IoPool& pool, std::shared_ptr<InferenceService> s)
      : service(std::move(s)),
        current(std::make_shared<const Policy>(std::move(o))),
        server(HttpOptions(Current()->options), pool,
               [this](HttpExchange& exchange) { return Handle(exchange); }) {}

  std::shared_ptr<const Policy> Current() const {
    MutexLock lock(mutex);
    return current;
  }

  HttpServerOptions HttpOptions(const GatewayOptions& o) {
    HttpServerOptions http;
    http.listen = o.listen;
    http.tls_certificate = o.tls_certificate;
    http.tls_key = o.tls_key;
    http.max_header_bytes = o.max_header_bytes;
    http.max_body_bytes = o.max_body_bytes;
    http.max_connections = o.max_connections;
    http.max_connections_per_address = o.max_connections_per_address;
    http.header_timeout = o.header_timeout;
    http.body_timeout = o.body_timeout;
    http.idle_timeout = o.idle_timeout;
    http.write_stall = o.write_stall;
    http.metrics = "gateway_open_connections";
    http.error = [this](const HttpRequest& request, int status, std::string_view message,
                        std::string_view code) { return Malformed(request, status, message, code); };
    return http;
  }

  // Of what never became a request.
  HttpResponse Malformed(const HttpRequest& request, int status, std::string_view message,
                         std::string_view code) const {
    const dialect::Dialect& dialect = DialectOf(request.path);
    HttpResponse response = ToResponse(dialect::FromHttp(status, message, code), dialect, request.id);
    for (Header& header : CommonHeaders(*Current(), request, dialect))
      response.headers.push_back(std::move(header));
    return response;
  }

  Task<> Handle(HttpExchange& exchange) {
    const TimePoint start = Clock::now();
    const std::shared_ptr<const Policy> policy = Current();
    HttpRequest request = exchange.TakeRequest();
    std::string_view rest;
    const Route* route = FindRoute(request.path, rest);
    const dialect::Dialect& dialect = route ? *route->dialect : DialectOf(request.path);
    for (const Header& header : CommonHeaders(*policy, request, dialect))
      exchange.AddHeader(header.first, header.second);
    CallOutcome outcome;
    std::string model;
    if (policy->options.admin && (request.path == "/workers" || request.path.starts_with("/workers/"))) {
      co_await Respond(exchange, co_await Admin(policy, exchange.home(), request), outcome);
    } else if (std::optional<HttpResponse> answer = AnswerAtOnce(*policy, request, route)) {
      co_await Respond(exchange, std::move(*answer), outcome);
    } else if (route->reply) {
      const Snapshot snapshot =
          route->describes ? WithAliases(policy->options, service->Describe()) : Snapshot();
      co_await Respond(exchange, route->reply({request, PercentDecoded(rest), snapshot, draining}), outcome);
    } else {
      outcome = co_await Inference(exchange, *policy, request, *route, model);
    }
    Count(request, route, model, outcome, Clock::now() - start);
  }

  Task<HttpResponse> Admin(std::shared_ptr<const Policy> policy, Executor home, const HttpRequest& request) {
    if (!policy->admin_key.Allows(TokenOf(request.Header("Authorization"), request.Header("X-Api-Key"))))
      co_return HttpResponse{401, R"({"error":{"message":"a valid admin key is needed"}})"};
    struct Answer {
      explicit Answer(Executor home) : done(std::move(home)) {}
      Signal done;
      HttpResponse response;
    };
    auto answer = std::make_shared<Answer>(std::move(home));
    Post(admin_pool.At(0), [answer, request, ask = policy->options.admin] {
      answer->response = ask(request);
      answer->done.Notify();
    });
    co_await answer->done.Wait();
    co_return std::move(answer->response);
  }

  // On whatever will be answered: what pages must see, and the dialect's own name of the request's id.
  using Header = std::pair<std::string, std::string>;
  static std::vector<Header> CommonHeaders(const Policy& policy, const HttpRequest& request,
                                           const dialect::Dialect& dialect) {
    std::vector<Header> out;
    if (!dialect.id_header.empty()) out.emplace_back(dialect.id_header, request.id);
    const std::string_view origin = request.Header("Origin");
    if (origin.empty() || !policy.cors.Allows(origin)) return out;
    out.emplace_back("Access-Control-Allow-Origin", policy.cors.any() ? "*" : origin);
    if (!policy.cors.any()) out.emplace_back("Vary", "Origin");
    out.emplace_back("Access-Control-Expose-Headers",
                     "x-request-id, request-id, retry-after, x-should-retry");
    return out;
  }

  static Task<> Respond(HttpExchange& exchange, HttpResponse response, CallOutcome& outcome) {
    outcome.http = response.status;
    if (!co_await exchange.Respond(std::move(response))) outcome.end = MakeStatus(Code::kCancelled, "");
  }

  // What is said before anybody looks at the body: refusals, and OPTIONS, which never needs a key.
  std::optional<HttpResponse> AnswerAtOnce(const Policy& policy, const HttpRequest& request,
                                           const Route* route) const {
    const dialect::Dialect& dialect = route ? *route->dialect : DialectOf(request.path);
    const auto refuse = [&](int http, std::string_view message, std::string_view code) {
      return ToResponse(dialect::FromHttp(http, message, code), dialect, request.id);
    };
    if (request.method == "OPTIONS") return Options(request, route);
    if (policy.options.echo_root && request.path == "/" && request.method == "POST")
      return HttpResponse{200, request.body, "application/octet-stream", {}};
    if (!route) return refuse(404, "There is nothing at this path.", "not_found");
    if (!HasMethod(route->methods, request.method)) {
      HttpResponse response = refuse(405, "This method is not allowed here.", "method_not_allowed");
      response.headers.emplace_back("Allow", route->methods);
      return response;
    }
    if (route->access == Access::kOpen) return std::nullopt;
    if (!policy.cors.Allows(request.Header("Origin")))
      return refuse(403, "Pages of this origin may not ask here (gateway.cors_origins).",
                    "origin_not_allowed");
    if ((route->access == Access::kToken || policy.options.models_need_token) && !Allowed(policy, request))
      return refuse(401, "A valid API key is needed.", "invalid_api_key");
    return std::nullopt;
  }

  // Also a browser's question whether it may ask.
  static HttpResponse Options(const HttpRequest& request, const Route* route) {
    const std::string methods(route ? route->methods : "GET, HEAD, POST, OPTIONS");
    HttpResponse response{204, "", "", {{"Allow", methods}}};
    if (request.Header("Origin").empty()) return response;
    response.headers.emplace_back("Access-Control-Allow-Methods", methods);
    if (const std::string_view wanted = request.Header("Access-Control-Request-Headers"); !wanted.empty())
      response.headers.emplace_back("Access-Control-Allow-Headers", wanted);
    response.headers.emplace_back("Access-Control-Max-Age", "7200");
    return response;
  }

  static bool HasMethod(std::string_view methods, std::string_view method) {
    const size_t at = methods.find(method);
    return at != std::string_view::npos && (at == 0 || methods[at - 1] == ' ') &&
           (at + method.size() == methods.size() || methods[at + method.size()] == ',');
  }

  static bool Allowed(const Policy& policy, const HttpRequest& request) {
    return policy.tokens.open() ||
           policy.tokens.Allows(TokenOf(request.Header("Authorization"), request.Header("X-Api-Key")));
  }

  // A header that goes on to other processes and their logs: as it is or, with any other bytes, not at all.
  static std::string Printable(std::string_view value) {
    constexpr size_t kLongest = 512;  // of a tracestate (W3C Trace Context, section 3.3.1.5)
    const auto odd = [](unsigned char c) { return c < 0x20 || c > 0x7e; };
    return value.size() > kLongest || std::ranges::any_of(value, odd) ? "" : std::string(value);
  }

  // What the caller says of its place: the worker it would like, and whom to stay with: what the header says,
  // else what the body says, else its key.
  static void PutRouting(const HttpRequest& request, RequestFacts& facts) {
    facts.worker_hint = Printable(request.Header("x-cy-worker"));
    std::string_view key = request.Header("x-cy-affinity");
    if (key.empty() && facts.affinity != 0) return;
    if (key.empty()) key = TokenOf(request.Header("Authorization"), request.Header("X-Api-Key"));
    facts.affinity = key.empty() ? 0 : Hash64(key);
  }

  Task<CallOutcome> Inference(HttpExchange& exchange, const Policy& policy, HttpRequest& request,
                              const Route& route, std::string& model) {
    CallOutcome outcome;
    Result<dialect::Call> call = Parse(policy, request, route);
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
    context.traceparent = Printable(request.Header("traceparent"));
    context.tracestate = Printable(request.Header("tracestate"));
    for (Request& one : call->requests) PutRouting(request, one.facts);
    request.body = {};
    InferenceCall run(policy.options, *service, exchange, *route.dialect);
    const auto running = std::make_shared<Running>(context.home, &run);
    {
      MutexLock lock(mutex);
      calls.insert(running);
    }
    metrics.running.Increment();
    outcome = co_await run.Run(std::move(*call), std::move(context));
    metrics.running.Decrement();
    running->call = nullptr;
    MutexLock lock(mutex);
    calls.erase(running);
    co_return outcome;
  }

  void EndRunning() {
    MutexLock lock(mutex);
    for (const auto& running : calls) {
      Post(running->home, [running] {
        if (running->call) running->call->EndWith(Unavailable("The server is shutting down.", "draining"));
      });
    }
  }

  Result<dialect::Call> Parse(const Policy& policy, const HttpRequest& request, const Route& route) const {
    const GatewayOptions& options = policy.options;
    if (options.log_prompts) Log()->info("{} body: {}", request.id, JsonEscape(request.body));
    if (draining) return Err(Unavailable("The server is shutting down.", "draining"));
    if (route.dialect->needs_json_type && !IsJson(request.Header("Content-Type")))
      return Err(InvalidArgument("The Content-Type must be application/json.", {}, "unsupported_media_type"));
    Result<dialect::Call> call =
        route.parse(request.body, {.max_choices = options.max_choices, .max_inputs = options.max_inputs});
    if (!call) return call;
    ResolveModel(options, names, *call);
    LimitTokens(options, *call);
    return call;
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
                          outcome.prompt_tokens, outcome.completion_tokens);
    }
    if (const std::string route = outcome.route.Text(); !route.empty()) line += ", " + route;
    if (!outcome.end.ok()) line += ": " + Loggable(outcome.end);
    Log()->log(level, "{}", line);
  }

  struct Running {
    const Executor home;
    InferenceCall* call;  // null: over; on home
  };

  const std::shared_ptr<InferenceService> service;
  mutable ModelNames names{*service};
  IoPool admin_pool{1, "admin"};
  mutable Mutex mutex;
  std::shared_ptr<const Policy> current CY_GUARDED_BY(mutex);
  std::unordered_set<std::shared_ptr<Running>> calls CY_GUARDED_BY(mutex);
  GatewayMetrics metrics;
  std::atomic<bool> draining{false};
  HttpServer server;
};

Gateway::Gateway(GatewayOptions options, IoPool& pool, std::shared_ptr<InferenceService> service)
    : impl_(std::make_unique<Impl>(std::move(options), pool, std::move(service))) {}

Gateway::~Gateway() { Stop(); }

Status Gateway::Start() { return impl_->server.Start(); }

std::string Gateway::address() const { return impl_->server.address(); }

Status Gateway::Reload(GatewayOptions options) {
  const std::shared_ptr<const Policy> now = impl_->Current();
  if (options.listen != now->options.listen)  // what was checked (a token, say) was checked for another place
    return InvalidArgument("gateway.listen can only change with a new start; nothing was changed", "listen");
  options.admin = now->options.admin;
  options.admin_key = now->options.admin_key;
  if (Status status = impl_->server.Reload(impl_->HttpOptions(options)); !status.ok()) return status;
  MutexLock lock(impl_->mutex);
  impl_->current = std::make_shared<const Policy>(std::move(options));
  return Status::Ok();
}

bool Gateway::Drain(TimePoint until) {
  impl_->draining = true;
  impl_->server.BeginDrain();
  if (impl_->server.WaitIdle(until)) return true;
  impl_->EndRunning();
  return impl_->server.WaitIdle(After(Clock::now(), kLastWords));
}

void Gateway::Stop() { impl_->server.Stop(); }

}  // namespace cyllm
