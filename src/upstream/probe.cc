// Looking at the server: is it there, which models has it, how busy is it.
#include <boost/asio.hpp>

#include "base/log.h"
#include "upstream/core.h"
#include "upstream/openai/error.h"

namespace cyllm {

namespace asio = boost::asio;
using upstream::Health;
using upstream::ServedModel;

namespace {

constexpr size_t kMaxBody = 16u << 20;
constexpr std::string_view kModels = "/v1/models";
constexpr Millis kMinPause{50};  // between two probes, whoever asks for them

}  // namespace

void Upstream::Core::StartLooking() {
  {
    MutexLock lock(mutex);
    looking = true;
  }
  asio::post(prober, [self = shared_from_this()] {
    asio::co_spawn(self->prober, self->Look(),
                   asio::bind_cancellation_slot(self->stop_looking.slot(), [self](std::exception_ptr) {
                     MutexLock lock(self->mutex);
                     self->looking = false;
                     self->changed.NotifyAll();
                   }));
  });
}

void Upstream::Core::StopLooking() {
  asio::post(prober,
             [self = shared_from_this()] { self->stop_looking.emit(asio::cancellation_type::terminal); });
  MutexLock lock(mutex);
  while (looking) changed.Wait(mutex);
}

Task<> Upstream::Core::Look() {
  const auto self = shared_from_this();
  while (true) {
    co_await Probe();
    const TimePoint now = Clock::now();
    TimePoint silent_since;
    bool up;
    {
      MutexLock lock(mutex);
      silent_since = health.silent_since();
      up = health.up();
    }
    // A server that says nothing at all will not go on with what it began.
    if (silent_since != kNever)
      EndRunning(Unavailable("the model's server does not answer", kSilent), silent_since);
    // Where the list of models has to serve as a sign of life, it is not asked for every second.
    const bool rarely = up && profile.load()->health == kModels;
    co_await SleepUntil(now + kMinPause);
    co_await look_now.Wait(now + (rarely ? options.models_interval : options.probe_interval));
  }
}

// The body of a good answer; an error's code says of which kind it is: kUnavailable with kSilent is silence.
Task<Result<std::string>> Upstream::Core::Get(std::string path) {
  const auto client = ClientOf(prober);
  if (!client) co_return Err(Unavailable("closed", "draining"));
  ClientCall call;
  call.path = std::move(path);
  call.answer_by = After(Clock::now(), options.probe_timeout);
  const auto answer = co_await client->Send(std::move(call));
  if (!answer) co_return Err(answer.error());
  Result<std::string> body = co_await ReadAll(**answer, kMaxBody, After(Clock::now(), options.probe_timeout));
  if (body && (*answer)->status != 200)
    co_return Err(upstream::FromHttp((*answer)->status, *body, Millis(0)));
  co_return body;
}

Task<> Upstream::Core::Probe() {
  const upstream::Profile* known = profile.load();
  const bool by_models = known->health == kModels;
  uint64_t life;
  {
    MutexLock lock(mutex);
    life = lives;
  }
  Result<std::string> body = co_await Get(std::string(known->health));
  const TimePoint now = Clock::now();
  // Whoever wants a key, or knows no such route, lives.
  const bool serves = body || body.error().code == Code::kUnauthenticated;
  const bool silent = !serves && body.error().reason == kSilent;
  bool was_up;
  {
    MutexLock lock(mutex);
    if (life != lives) co_return;  // of one that is gone
    was_up = health.up();
    health.OnProbe(serves   ? Health::Probe::kServes
                   : silent ? Health::Probe::kSilent
                            : Health::Probe::kRefuses,
                   now);
  }
  if (!serves) {
    metrics.probes_failed.Increment();
    if (was_up || !std::exchange(looked, true))
      Log()->warn("{} ({}) does not serve: {}", options.name, url.ToString(), body.error().ToString());
    models_due = TimePoint::min();
    co_return;
  }
  if (!was_up) Log()->info("{} ({}) serves", options.name, url.ToString());
  if (now >= models_due || by_models) {
    if (!by_models) body = co_await Get(std::string(kModels));
    Result<std::vector<ServedModel>> read =
        body ? upstream::ReadModels(*body) : Result<std::vector<ServedModel>>(Err(body.error()));
    const auto* found = read && !read->empty() ? upstream::ProfileOfOwner(read->front().owned_by) : nullptr;
    if (found && !options.profile && found != known) {
      profile = found;
      Log()->info("{} ({}) is a {}", options.name, url.ToString(), found->name);
    }
    MutexLock lock(mutex);
    if (read) {
      models = std::move(*read);
      models_due = After(now, options.models_interval);
      trouble.clear();
    } else if (trouble.empty()) {
      trouble = read.error().code == Code::kUnauthenticated ? "the model's server does not accept our key"
                                                            : "the model's server does not list its models";
      Log()->warn("{} ({}): its models cannot be read: {}", options.name, url.ToString(),
                  read.error().ToString());
    }
  }
  if (!known->metrics.empty()) {
    const Result<std::string> text = co_await Get(std::string(known->metrics));
    MutexLock lock(mutex);
    load = text ? upstream::ReadLoad(*known, *text) : upstream::ImportedLoad{};
  }
}

}  // namespace cyllm
