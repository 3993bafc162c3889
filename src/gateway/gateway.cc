#include "gateway/gateway.h"

#include <fmt/format.h>

#include <map>

#include "base/log.h"
#include "base/metrics.h"
#include "base/utf8.h"
#include "gateway/access/tokens.h"
#include "gateway/gateway_metrics.h"
#include "gateway/http/server.h"
#include "gateway/inference_call.h"

namespace cyllm {

namespace {

constexpr std::string_view kModels = "/v1/models";

HttpResponse OpenAiError(int status, std::string_view message, std::string_view code) {
  openai::ApiError error;
  error.http = status;
  error.type = status >= 500 ? "server_error" : "invalid_request_error";
  error.code = code;
  error.message = message;
  error.should_retry = false;
  return ToResponse(error);
}

// The message of a refused request quotes what the client sent, which may be a prompt: not for the log.
std::string Loggable(const Status& status) {
  if (status.code != Code::kInvalidArgument) return status.ToString();
  std::string text(CodeName(status.code));
  if (!status.param.empty()) text += " '" + JsonEscape(std::string_view(status.param).substr(0, 100)) + "'";
  if (!status.reason.empty()) text += " (" + status.reason + ")";
  return text;
}

std::string ModelJson(const ModelInfo& model) {
  std::string json = fmt::format(R"({{"id":"{}","object":"model","created":{},"owned_by":"cy-llm")",
                                 JsonEscape(model.id), model.created);
  if (!model.alias_of.empty()) json += fmt::format(R"(,"root":"{}")", JsonEscape(model.alias_of));
  if (model.max_model_len > 0) json += fmt::format(R"(,"max_model_len":{})", model.max_model_len);
  return json + "}";
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

}  // namespace

struct Gateway::Impl {
  Impl(GatewayOptions o, IoPool& pool, std::shared_ptr<InferenceService> s)
      : options(std::move(o)),
        service(std::move(s)),
        tokens(options.api_tokens),
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
    http.error = OpenAiError;
    return http;
  }

  Task<> Handle(HttpExchange& exchange) {
    const TimePoint start = Clock::now();
    HttpRequest request = exchange.TakeRequest();
    // The same handlers without /v1: llama.cpp's clients.
    std::string path = request.path;
    if (path == "/chat/completions" || path == "/completions" || path == "/models") path = "/v1" + path;

    CallOutcome outcome;
    std::string model;
    if (path == "/v1/chat/completions" || path == "/v1/completions") {
      outcome = co_await Inference(exchange, request, path == "/v1/completions", model);
    } else {
      HttpResponse response = Plain(request, path);
      outcome.http = response.status;
      if (!co_await exchange.Respond(std::move(response))) outcome.end = MakeStatus(Code::kCancelled, "");
    }
    Count(request, path, model, outcome, Clock::now() - start);
  }

  bool Allowed(const HttpRequest& request) const {
    return tokens.open() ||
           tokens.Allows(TokenOf(request.Header("Authorization"), request.Header("X-Api-Key")));
  }

  static HttpResponse Unauthorized() {
    openai::ApiError error{
        401, "authentication_error", "invalid_api_key", "", "A valid API key is needed.", 0, true};
    return ToResponse(error);
  }

  static HttpResponse WrongMethod(const char* allowed) {
    HttpResponse response = OpenAiError(405, "This method is not allowed here.", "method_not_allowed");
    response.headers.emplace_back("Allow", allowed);
    return response;
  }

  HttpResponse Plain(const HttpRequest& request, const std::string& path) const {
    if (request.method == "OPTIONS") return {204, "", "", {{"Allow", "GET, HEAD, POST, OPTIONS"}}};
    const bool is_model = path.starts_with(std::string(kModels) + "/") && path.size() > kModels.size() + 1;
    if (path != "/health" && path != "/ready" && path != "/metrics" && path != kModels && !is_model)
      return OpenAiError(404, "There is nothing at this path.", "not_found");
    if (request.method != "GET" && request.method != "HEAD") return WrongMethod("GET, HEAD");
    if (path == "/health") return {200, R"({"status":"ok"})", "application/json", {}};
    if (path == "/ready") return Ready();
    if (path == "/metrics") return {200, RenderMetrics(), "text/plain; version=0.0.4; charset=utf-8", {}};
    if (options.models_need_token && !Allowed(request)) return Unauthorized();
    return is_model ? Model(PercentDecoded(path.substr(kModels.size() + 1))) : Models();
  }

  HttpResponse Ready() const {
    const Snapshot snapshot = service->Describe();
    if (snapshot.ready && !draining) return {200, R"({"status":"ready"})", "application/json", {}};
    std::string body = R"({"status":"not ready","reasons":[)";
    std::vector<std::string> reasons = snapshot.not_ready_reasons;
    if (draining) reasons = {"draining"};
    if (reasons.empty()) reasons = {"no worker is available"};
    for (size_t i = 0; i < reasons.size(); ++i)
      body += fmt::format(R"({}"{}")", i ? "," : "", JsonEscape(reasons[i]));
    return {503, body + "]}", "application/json", {{"Retry-After", "1"}}};
  }

  HttpResponse Models() const {
    std::string body = R"({"object":"list","data":[)";
    bool first = true;
    for (const ModelInfo& model : service->Describe().models) {
      body += (first ? "" : ",") + ModelJson(model);
      first = false;
    }
    return {200, body + "]}", "application/json", {}};
  }

  HttpResponse Model(const std::string& id) const {
    const Snapshot snapshot = service->Describe();
    if (const ModelInfo* model = snapshot.Find(id)) return {200, ModelJson(*model), "application/json", {}};
    return ToResponse(openai::FromStatus(
        MakeStatus(Code::kNotFound, "The model '" + id + "' does not exist.", "model_not_found", "model")));
  }

  Task<CallOutcome> Inference(HttpExchange& exchange, HttpRequest& request, bool completion,
                              std::string& model) {
    CallOutcome outcome;
    HttpResponse refusal;
    std::optional<openai::Call> call = Accept(request, completion, refusal, outcome.end);
    if (!call) {
      outcome.http = refusal.status;
      co_await exchange.Respond(std::move(refusal));
      co_return outcome;
    }
    model = call->model;
    Context context;
    context.home = exchange.home();
    context.request_id = exchange.request().id;
    context.traceparent = std::string(request.Header("traceparent"));
    context.tracestate = std::string(request.Header("tracestate"));
    request.body = {};
    InferenceCall run(options, *service, exchange);
    metrics.running.Increment();
    outcome = co_await run.Run(std::move(*call), std::move(context));
    metrics.running.Decrement();
    co_return outcome;
  }

  // The call, or the refusal.
  std::optional<openai::Call> Accept(const HttpRequest& request, bool completion, HttpResponse& refusal,
                                     Status& why) const {
    if (request.method == "OPTIONS") {
      refusal = {204, "", "", {{"Allow", "POST, OPTIONS"}}};
      return std::nullopt;
    }
    if (request.method != "POST") {
      refusal = WrongMethod("POST");
      return std::nullopt;
    }
    if (!Allowed(request)) {
      refusal = Unauthorized();
      return std::nullopt;
    }
    if (draining) {
      why = Unavailable("The server is shutting down.", "draining");
    } else if (!IsJson(request.Header("Content-Type"))) {
      why = InvalidArgument("The Content-Type must be application/json.", {}, "unsupported_media_type");
    } else {
      const openai::Limits limits{options.max_choices};
      Result<openai::Call> call = completion ? openai::ParseCompletion(request.body, limits)
                                             : openai::ParseChat(request.body, limits);
      if (call) return std::move(*call);
      why = call.error();
    }
    refusal = ToResponse(openai::FromStatus(why));
    return std::nullopt;
  }

  // No Content-Type at all is taken as JSON.
  static bool IsJson(std::string_view type) {
    return type.empty() || type.starts_with("application/json") || type.starts_with("text/json") ||
           type.find("+json") != std::string_view::npos;
  }

  void Count(const HttpRequest& request, const std::string& path, const std::string& model,
             const CallOutcome& outcome, Clock::duration took) {
    metrics.Count(path, outcome, took);
    const auto ms = std::chrono::duration<double, std::milli>(took).count();
    const bool probe = path == "/health" || path == "/ready" || path == "/metrics";
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
    if (!outcome.end.ok()) line += ": " + Loggable(outcome.end);
    Log()->log(level, "{}", line);
  }

  const GatewayOptions options;
  const std::shared_ptr<InferenceService> service;
  const TokenSet tokens;
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
