#include "upstream/upstream.h"

#include <algorithm>
#include <boost/asio.hpp>
#include <future>

#include "base/log.h"
#include "upstream/call.h"
#include "upstream/core.h"

namespace cyllm {

namespace asio = boost::asio;
using upstream::Call;
using upstream::ServedModel;

namespace {

// A server whose KV cache is as full as this will soon put requests aside: it counts as twice as busy.
constexpr double kKvFull = 0.9;

}  // namespace

Upstream::Core::Core(UpstreamOptions o, Url u, std::shared_ptr<asio::ssl::context> t, Executor p)
    : options(std::move(o)),
      url(std::move(u)),
      tls(std::move(t)),
      prober(p),
      profile(options.profile ? options.profile : upstream::FindProfile("openai")),
      health(options.health),
      look_now(std::move(p)) {}

std::shared_ptr<HttpClient> Upstream::Core::ClientOf(const Executor& home) {
  MutexLock lock(mutex);
  if (closed) return nullptr;
  for (const auto& [executor, client] : clients) {
    if (executor == home) return client;
  }
  ClientOptions client;
  client.url = url;
  client.tls = tls;
  client.bearer = options.api_key;
  client.connect_timeout = options.connect_timeout;
  client.keep_idle = std::chrono::duration_cast<Millis>(profile.load()->keep_alive) - Millis(1'000);
  clients.emplace_back(home, std::make_shared<HttpClient>(std::move(client), home));
  return clients.back().second;
}

void Upstream::Core::Note(const Status& end) {
  const bool clients_mistake = end.code == Code::kInvalidArgument || end.code == Code::kNotFound ||
                               end.code == Code::kUnimplemented || end.code == Code::kFailedPrecondition;
  const bool neutral = end.reason == "overloaded" || end.reason == "draining" ||
                       end.code == Code::kCancelled || end.code == Code::kDeadlineExceeded;
  if (neutral) return;
  {
    MutexLock lock(mutex);
    if (end.ok() || clients_mistake) return health.OnAnswer();
    if (end.reason == kUnreachable) {
      health.OnUnreachable();
    } else {
      health.OnServerError(Clock::now());
    }
  }
  metrics.failures.Increment();
  look_now.Notify();
}

std::string Upstream::Core::ModelName(const std::string& asked) const {
  if (!options.model.empty()) return options.model;
  MutexLock lock(mutex);
  const bool listed = std::ranges::any_of(models, [&](const ServedModel& m) { return m.id == asked; });
  if (listed || asked != "default" || models.empty()) return asked;
  return options.default_model.empty() ? models.front().id : options.default_model;
}

namespace {

std::string Digest(const upstream::Profile& profile, const ServedModel& model) {
  if (!profile.continues || model.identity.empty()) return {};
  return std::string(profile.name) + " " + model.identity;
}

}  // namespace

std::string Upstream::Core::DigestOf(const std::string& served) const {
  MutexLock lock(mutex);
  const auto model = std::ranges::find(models, served, &ServedModel::id);
  return model == models.end() ? std::string() : Digest(*profile.load(), *model);
}

uint32_t Upstream::Core::ContextOf(const std::string& served) const {
  MutexLock lock(mutex);
  const auto model = std::ranges::find(models, served, &ServedModel::id);
  return model == models.end() ? 0 : model->max_model_len;
}

bool Upstream::Core::Register(const std::shared_ptr<Call>& call) {
  MutexLock lock(mutex);
  if (draining || closed) return false;
  running.emplace(call.get(), call);
  return true;
}

void Upstream::Core::Unregister(const Call* call) {
  MutexLock lock(mutex);
  running.erase(call);
  if (running.empty()) changed.NotifyAll();
}

void Upstream::Core::EndRunning(const Status& why, TimePoint silent_since) {
  std::vector<std::shared_ptr<Call>> calls;
  {
    MutexLock lock(mutex);
    for (const auto& [raw, weak] : running) {
      if (auto call = weak.lock()) calls.push_back(std::move(call));
    }
  }
  for (const auto& call : calls) {
    asio::post(call->home(), [call, why, silent_since] {
      if (call->heard() < silent_since) call->Fail(why);
    });
  }
}

Upstream::Upstream(std::shared_ptr<Core> core) : core_(std::move(core)) {}

Upstream::~Upstream() { Close(); }

Result<std::shared_ptr<Upstream>> Upstream::Make(UpstreamOptions options, Executor prober) {
  Result<Url> url = ParseUrl(options.url);
  if (!url) return Err(url.error());
  std::shared_ptr<asio::ssl::context> tls;
  if (url->tls) {
    auto made = MakeTls(options.tls);
    if (!made) return Err(made.error());
    tls = std::move(*made);
  }
  auto core = std::make_shared<Core>(std::move(options), std::move(*url), std::move(tls), std::move(prober));
  core->StartLooking();
  return std::shared_ptr<Upstream>(new Upstream(std::move(core)));
}

EventStream Upstream::Infer(Request request, Context context) {
  return upstream::StreamOf(std::make_shared<Call>(core_, std::move(request), std::move(context)));
}

Snapshot Upstream::Describe() const {
  const upstream::Profile& profile = *core_->profile.load();
  const TimePoint now = Clock::now();
  MutexLock lock(core_->mutex);
  Snapshot snapshot;
  for (const ServedModel& model : core_->models) {
    ModelInfo info;
    info.id = model.id;
    info.engine = std::string(profile.name);
    info.state = ModelState::kReady;
    info.max_model_len = model.max_model_len;
    info.digest = Digest(profile, model);
    info.capabilities = profile.capabilities | (info.digest.empty() ? 0u : kCapResume);
    info.created = model.created;
    for (const ServedModel& other : core_->models)
      if (!other.parent.empty() && other.parent == model.id) info.adapters.push_back(other.id);
    std::ranges::sort(info.adapters);
    snapshot.models.push_back(std::move(info));
  }
  if (!snapshot.models.empty() && !snapshot.Find("default")) {
    const std::string& wanted = core_->options.default_model;
    const ModelInfo* first = wanted.empty() ? &snapshot.models.front() : snapshot.Find(wanted);
    if (first) {
      ModelInfo alias = *first;
      alias.alias_of = std::exchange(alias.id, "default");
      snapshot.models.push_back(std::move(alias));
    }
  }
  std::ranges::sort(snapshot.models, {}, &ModelInfo::id);
  const auto count = [](double value) { return static_cast<uint32_t>(std::min(value, 1e9)); };
  snapshot.load.running =
      core_->load.running ? count(*core_->load.running) : static_cast<uint32_t>(core_->running.size());
  snapshot.load.waiting = count(core_->load.waiting.value_or(0));
  if (core_->load.kv_usage.value_or(0) >= kKvFull) snapshot.load.waiting += snapshot.load.running;
  snapshot.load.max_running = core_->options.max_running;
  std::string reason = core_->draining ? "draining" : core_->health.reason(now);
  if (reason.empty()) reason = core_->trouble;
  if (reason.empty() && core_->models.empty() && core_->options.model.empty())
    reason = "the model's server has no models";
  snapshot.ready = reason.empty();
  if (!snapshot.ready) snapshot.not_ready_reasons.push_back(std::move(reason));
  return snapshot;
}

const upstream::Profile& Upstream::profile() const { return *core_->profile.load(); }

const std::string& Upstream::url() const { return core_->options.url; }

void Upstream::ProbeNow() { core_->look_now.Notify(); }

void Upstream::MarkDown() {
  MutexLock lock(core_->mutex);
  core_->health.OnUnreachable();
  ++core_->lives;
}

void Upstream::EndRunning(const std::string& reason) {
  core_->EndRunning(Unavailable("the model's server went away", reason));
}

void Upstream::Drain(TimePoint until) {
  {
    MutexLock lock(core_->mutex);
    core_->draining = true;
    while (!core_->running.empty()) {
      if (!core_->changed.WaitUntil(core_->mutex, until)) break;
    }
  }
  core_->EndRunning(Unavailable("the server is shutting down", "draining"));
  MutexLock lock(core_->mutex);
  while (!core_->running.empty()) core_->changed.Wait(core_->mutex);
}

void Upstream::Close() {
  {
    MutexLock lock(core_->mutex);
    if (core_->closed) return;
  }
  Drain(Clock::now());
  core_->StopLooking();
  std::vector<std::pair<Executor, std::shared_ptr<HttpClient>>> clients;
  {
    MutexLock lock(core_->mutex);
    core_->closed = true;
    clients.swap(core_->clients);
  }
  // Connections end where they live.
  for (auto& [home, client] : clients) {
    std::promise<void> done;
    asio::post(home, [&done, last = std::move(client)]() mutable {
      last.reset();
      done.set_value();
    });
    done.get_future().wait();
  }
}

}  // namespace cyllm
