#include "worker/upstream_slot.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>

#include "base/log.h"
#include "upstream/engine.h"
#include "worker/socket_path.h"

namespace cyllm {

namespace json = boost::json;

namespace {

std::optional<std::string> Variable(const std::string& name) {
  const char* value = getenv(name.c_str());
  return value ? std::optional<std::string>(value) : std::nullopt;
}

// One that is free now.
int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const bool ok = bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  close(fd);
  return ok ? ntohs(address.sin_port) : 0;
}

Result<std::string> TextOption(const json::object& options, std::string_view name) {
  const json::value* value = options.if_contains(name);
  if (!value || value->is_null()) return std::string();
  if (!value->is_string()) return Err(InvalidArgument(fmt::format("'{}' must be a text", name)));
  return std::string(value->get_string());
}

Result<Millis> SecondsOption(const json::object& options, std::string_view name, Millis otherwise) {
  const json::value* value = options.if_contains(name);
  if (!value || value->is_null()) return otherwise;
  json::error_code ec;
  const double seconds = value->is_number() ? value->to_number<double>(ec) : -1;
  if (ec || !(seconds > 0 && seconds <= 86'400))
    return Err(InvalidArgument(fmt::format("'{}' must be a number of seconds", name)));
  return Millis(static_cast<int64_t>(seconds * 1000));
}

}  // namespace

std::vector<std::string> UpstreamSlotOptions(const upstream::Profile& profile) {
  std::vector<std::string> names = {"url", "api_key_env"};
  const std::vector<std::string> launch = upstream::LaunchOptions(profile);
  names.insert(names.end(), launch.begin(), launch.end());
  if (!launch.empty()) names.insert(names.end(), {"start_timeout", "stop_grace"});
  return names;
}

Result<std::shared_ptr<UpstreamSlot>> UpstreamSlot::Make(const ModelEntry& entry, const std::string& worker,
                                                         Executor prober) {
  const auto wrong = [&](const Status& status) {
    return Err(InvalidArgument(fmt::format("model '{}': {}", entry.id, status.message)));
  };
  const auto profile = upstream::ProfileOfEngine(entry.engine);
  if (!profile) return wrong(profile.error());
  const json::object options = json::parse(entry.options_json).as_object();
  const auto url = TextOption(options, "url"), key_name = TextOption(options, "api_key_env");
  const auto start_limit = SecondsOption(options, "start_timeout", Millis(600'000));
  const auto stop_grace = SecondsOption(options, "stop_grace", Millis(10'000));
  if (!url) return wrong(url.error());
  if (!key_name) return wrong(key_name.error());
  if (!start_limit) return wrong(start_limit.error());
  if (!stop_grace) return wrong(stop_grace.error());

  std::shared_ptr<UpstreamSlot> slot(new UpstreamSlot());
  slot->id_ = entry.id;
  slot->engine_ = entry.engine;
  UpstreamOptions to;
  to.name = worker;
  to.url = *url;
  to.profile = *profile;
  if (!key_name->empty()) {
    const auto key = Variable(*key_name);
    if (!key || key->empty()) return wrong(InvalidArgument("the variable " + *key_name + " is not set"));
    to.api_key = *key;
  }
  std::optional<upstream::Launch> launch;
  if (url->empty() && entry.source.empty())
    return wrong(InvalidArgument(fmt::format(
        "engine {} needs a 'url' (a server that runs) or a 'model_path' (for one to start)", entry.engine)));
  if (url->empty()) {
    upstream::LaunchRequest request{entry.source, entry.id,   entry.options_json,
                                    SocketPath(), FreePort(), *stop_grace};
    auto made = upstream::MakeLaunch(**profile, request, Variable);
    if (!made) return wrong(made.error());
    launch = std::move(*made);
    to.url = launch->url;
    slot->model_ = entry.id;
  } else {
    slot->model_ = entry.source;
  }
  to.model = slot->model_;
  auto made = Upstream::Make(std::move(to), std::move(prober));
  if (!made) return wrong(made.error());
  slot->upstream_ = std::move(*made);
  if (!launch) return slot;
  SupervisorOptions supervised;
  supervised.name = fmt::format("{} of model '{}'", entry.engine, entry.id);
  supervised.child = std::move(launch->child);
  supervised.socket = std::move(launch->socket);
  supervised.start_limit = *start_limit;
  // It is given the grace to end its streams, and a little to fall.
  supervised.stop_grace = *stop_grace + Millis(5'000);
  supervised.ready = [raw = slot->upstream_.get()] { return raw->Describe().ready; };
  supervised.on_end = [raw = slot->upstream_.get()] {
    raw->EndRunning("upstream_died");
    raw->MarkDown();
    raw->ProbeNow();
  };
  slot->supervisor_ = std::make_unique<Supervisor>(std::move(supervised));
  return slot;
}

UpstreamSlot::~UpstreamSlot() { Close(Clock::now()); }

EventStream UpstreamSlot::Infer(Request request, Context context) {
  if (closed_) return EndedStream(Unavailable("the server is shutting down", "draining"));
  if (!supervisor_ || Usable()) return Send(std::move(request), std::move(context));
  return WaitForStart(shared_from_this(), id_, std::move(request), std::move(context));
}

EventStream UpstreamSlot::Send(Request request, Context context) {
  request.facts.model = model_.empty() ? "default" : model_;
  return upstream_->Infer(std::move(request), std::move(context));
}

bool UpstreamSlot::Usable() const {
  const bool usable = supervisor_ ? supervisor_->state() == ServerState::kReady : upstream_->Describe().ready;
  if (usable) was_loaded_ = true;
  return usable;
}

Status UpstreamSlot::Trouble() const {
  if (closed_) return Unavailable("the server is shutting down", "draining");
  if (supervisor_->state() == ServerState::kFailed)
    return Unavailable("the model's server could not be started", "load_failed", Millis(10'000));
  return Status::Ok();
}

void UpstreamSlot::StartLoad() {
  if (supervisor_ && !closed_) supervisor_->Start();
}

void UpstreamSlot::Unload() {
  if (supervisor_) supervisor_->BeginStop();
}

void UpstreamSlot::Close(TimePoint until) {
  if (closed_.exchange(true) || !upstream_) return;
  upstream_->Drain(until);
  if (supervisor_) supervisor_->Stop();
  upstream_->Close();
}

ModelInfo UpstreamSlot::Describe() const {
  const Snapshot snapshot = upstream_->Describe();
  ModelInfo info;
  info.id = id_;
  info.engine = engine_;
  info.capabilities = upstream_->profile().capabilities;
  if (const ModelInfo* served = snapshot.Find(model_.empty() ? "default" : model_)) {
    info.max_model_len = served->max_model_len;
    info.adapters = served->adapters;
    info.digest = served->digest;
    info.capabilities = served->capabilities;
  }
  if (!supervisor_) {
    info.state = Usable() ? ModelState::kReady : was_loaded_ ? ModelState::kFailed : ModelState::kLoading;
    return info;
  }
  switch (supervisor_->state()) {
    case ServerState::kStopped:
    case ServerState::kStopping:
      info.state = ModelState::kAvailable;
      break;
    case ServerState::kStarting:
      info.state = ModelState::kLoading;
      break;
    case ServerState::kReady:
      was_loaded_ = true;
      info.state = ModelState::kReady;
      break;
    case ServerState::kFailed:
      info.state = ModelState::kFailed;
      break;
  }
  return info;
}

struct Load UpstreamSlot::load() const { return upstream_->Describe().load; }

}  // namespace cyllm
