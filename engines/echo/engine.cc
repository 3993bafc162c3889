// The echo engine behind the C ABI: one thread, all requests.
#include "sdk/engine.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>
#include <vector>

#include "echo/job.h"
#include "echo/options.h"

namespace cyllm::echo {
namespace {

constexpr uint32_t kMaxChoices = 128;

// The field that a message of ReadPrompt begins with.
std::string_view ParamOf(std::string_view message) {
  for (const std::string_view param : {"tools", "tool_choice", "response_format", "guided_regex",
                                       "guided_choice", "guided_grammar", "structured_outputs", "grammar"})
    if (message.starts_with(param)) return param;
  return "messages";
}

class Engine {
 public:
  Engine(Options options, const cyllm_callbacks& callbacks)
      : options_(std::move(options)), callbacks_(callbacks), thread_([this] { Run(); }) {}

  ~Engine() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  int32_t Submit(const cyllm_request& in, cyllm_error* error) {
    std::string why;
    if (options_.refuse)
      return sdk::Fail(error, CYLLM_RESOURCE_EXHAUSTED, "echo refuses every request", "overloaded", {}, true);
    std::optional<Prompt> prompt = ReadPrompt(in, &why);
    if (!prompt) return sdk::Fail(error, CYLLM_INVALID_ARGUMENT, why, {}, ParamOf(why));
    if (in.n == 0 || in.n > kMaxChoices || !in.sampling)
      return sdk::Fail(error, CYLLM_INVALID_ARGUMENT, "n must be from 1 to 128", {}, "n");
    cyllm_request request = in;
    const cyllm_sampling sampling = sdk::Read(in.sampling);
    request.sampling = &sampling;
    auto job = std::make_unique<Job>(request, std::move(*prompt), options_, Clock::now());
    if (request.resume && !job->Resume(request.resume, &why))
      return sdk::Fail(error, CYLLM_INVALID_ARGUMENT, why, "cannot_resume");
    {
      std::lock_guard lock(mutex_);
      if (draining_ || stopping_)
        return sdk::Fail(error, CYLLM_UNAVAILABLE, "draining", "draining", {}, true);
      if (options_.max_running && live_ >= *options_.max_running)
        return sdk::Fail(error, CYLLM_RESOURCE_EXHAUSTED, "echo: max_running are running", "overloaded", {},
                         true);
      arrived_.emplace_back(request.id, std::move(job));
      ++live_;
    }
    changed_.notify_all();
    return CYLLM_OK;
  }

  void Cancel(uint64_t id) { Command(id, 0); }
  void Credit(uint64_t id, uint32_t events) {
    if (events > 0) Command(id, events);
  }

  // What decides about its texts: another worker with the same can take a request over.
  std::string digest() const {
    return "echo-2" + (options_.reply_tokens ? "-" + std::to_string(*options_.reply_tokens) : "");
  }

  uint32_t live() {
    std::lock_guard lock(mutex_);
    return live_;
  }
  void Drain() {
    std::unique_lock lock(mutex_);
    draining_ = true;
    idle_.wait(lock, [&] { return live_ == 0; });
  }

 private:
  void Command(uint64_t id, uint32_t credit) {
    {
      std::lock_guard lock(mutex_);
      commands_.emplace_back(id, credit);
    }
    changed_.notify_all();
  }

  void Run() {
    while (true) {
      std::vector<std::pair<uint64_t, std::unique_ptr<Job>>> arrived;
      std::vector<std::pair<uint64_t, uint32_t>> commands;
      bool stopping = false;
      {
        std::unique_lock lock(mutex_);
        const auto something = [&] { return stopping_ || !arrived_.empty() || !commands_.empty(); };
        if (due_.empty()) {
          changed_.wait(lock, something);
        } else {
          changed_.wait_until(lock, due_.begin()->first, something);
        }
        arrived.swap(arrived_);
        commands.swap(commands_);
        stopping = stopping_;
      }
      uint32_t ended = 0;
      for (auto& [id, job] : arrived) {
        due_.emplace(job->due(), id);
        jobs_.emplace(id, std::move(job));
      }
      for (const auto& [id, credit] : commands) {
        ended += Change(id, [&, n = credit](Job& job) {
          if (n > 0) {
            job.Credit(n);
          } else {
            job.End(CYLLM_CANCELLED, "cancelled", step_);
          }
        });
      }
      const TimePoint now = Clock::now();
      for (const uint64_t id : stopping ? All() : DueAt(now)) {
        ended += Change(id, [&](Job& job) {
          if (stopping) {
            job.End(CYLLM_CANCELLED, "the engine is going away", step_);
          } else {
            job.Advance(now, step_);
          }
        });
      }
      Tell(ended);
      if (stopping) return;
    }
  }

  // Applies `f` to a job, if there is one of that id; 1 when that ended it.
  template <class F>
  uint32_t Change(uint64_t id, F f) {
    const auto it = jobs_.find(id);
    if (it == jobs_.end()) return 0;
    Job& job = *it->second;
    const TimePoint before = job.due();
    f(job);
    const TimePoint after = job.ended() ? TimePoint::max() : job.due();
    if (after != before) {
      due_.erase({before, id});
      if (after != TimePoint::max()) due_.emplace(after, id);
    }
    if (!job.ended()) return 0;
    jobs_.erase(it);
    return 1;
  }

  std::vector<uint64_t> DueAt(TimePoint now) const {
    std::vector<uint64_t> ids;
    for (auto it = due_.begin(); it != due_.end() && it->first <= now; ++it) ids.push_back(it->second);
    return ids;
  }
  std::vector<uint64_t> All() const {
    std::vector<uint64_t> ids;
    for (const auto& [id, job] : jobs_) ids.push_back(id);
    return ids;
  }

  void Tell(uint32_t ended) {
    if (!step_.events().empty())
      callbacks_.events(callbacks_.ctx, step_.events().data(), step_.events().size());
    step_.Clear();
    if (ended == 0) return;
    std::lock_guard lock(mutex_);
    live_ -= ended;
    if (live_ == 0) idle_.notify_all();
  }

  const Options options_;
  const cyllm_callbacks callbacks_;

  std::mutex mutex_;
  std::condition_variable changed_, idle_;
  std::vector<std::pair<uint64_t, std::unique_ptr<Job>>> arrived_;
  std::vector<std::pair<uint64_t, uint32_t>> commands_;  // id, credit; 0: cancel
  uint32_t live_ = 0;                                    // not ended
  bool draining_ = false, stopping_ = false;

  // Of the thread.
  std::unordered_map<uint64_t, std::unique_ptr<Job>> jobs_;
  std::set<std::pair<TimePoint, uint64_t>> due_;  // of every job that has something to do at some time
  Step step_;
  std::thread thread_;
};

// Sleeps in small parts with progress; false when told to stop.
bool PretendToLoad(double ms, cyllm_progress_fn progress, void* ctx) {
  const int parts = std::max(10, static_cast<int>(ms / 10));
  for (int i = 0; i < parts; ++i) {
    if (progress && progress(ctx, static_cast<double>(i) / parts, sdk::Str("pretending to load")))
      return false;
    std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(ms / parts));
  }
  return true;
}

Engine* Of(cyllm_engine* engine) { return reinterpret_cast<Engine*>(engine); }

cyllm_engine* Create(cyllm_str config, const cyllm_callbacks* callbacks, cyllm_progress_fn progress,
                     void* ctx, cyllm_error* error) {
  try {
    std::string why;
    std::optional<Options> options = ParseOptions(sdk::View(config), &why);
    if (!options) {
      sdk::Fail(error, CYLLM_INVALID_ARGUMENT, why);
      return nullptr;
    }
    if (options->load_ms > 0 && !PretendToLoad(options->load_ms, progress, ctx)) {
      sdk::Fail(error, CYLLM_CANCELLED, "loading was stopped");
      return nullptr;
    }
    if (options->load_fails) {
      sdk::Fail(error, CYLLM_INTERNAL, "echo: load_fails is set");
      return nullptr;
    }
    return reinterpret_cast<cyllm_engine*>(new Engine(std::move(*options), sdk::Read(callbacks)));
  } catch (const std::exception& e) {
    sdk::Fail(error, CYLLM_INTERNAL, e.what());
    return nullptr;
  }
}

void Describe(cyllm_engine* engine, cyllm_description* out) {
  cyllm_description d;
  std::memset(&d, 0, sizeof d);
  d.capabilities = CYLLM_CAP_CHAT | CYLLM_CAP_TEXT | CYLLM_CAP_TOKENS | CYLLM_CAP_LOGPROBS |
                   CYLLM_CAP_RESUME | CYLLM_CAP_TOOLS | CYLLM_CAP_JSON_SCHEMA | CYLLM_CAP_EMBED |
                   CYLLM_CAP_RERANK | CYLLM_CAP_TOKENIZE;
  sdk::Copy(Of(engine)->digest(), d.digest);
  sdk::Write(d, out);
}

int32_t Submit(cyllm_engine* engine, const cyllm_request* request, cyllm_error* error) {
  try {
    return Of(engine)->Submit(sdk::Read(request), error);
  } catch (const std::exception& e) {
    return sdk::Fail(error, CYLLM_INTERNAL, e.what());
  }
}

void Stats(cyllm_engine* engine, cyllm_stats* out) {
  cyllm_stats s;
  std::memset(&s, 0, sizeof s);
  s.running = Of(engine)->live();
  sdk::Write(s, out);
}

const cyllm_engine_api kApi = {
    sizeof(cyllm_engine_api),
    CYLLM_ENGINE_ABI_MAJOR,
    CYLLM_ENGINE_ABI_MINOR,
    "echo",
    "1",
    Create,
    Describe,
    Submit,
    [](cyllm_engine* engine, uint64_t id) { Of(engine)->Cancel(id); },
    [](cyllm_engine* engine, uint64_t id, uint32_t events) { Of(engine)->Credit(id, events); },
    Stats,
    [](cyllm_engine* engine) { Of(engine)->Drain(); },
    [](cyllm_engine* engine) { delete Of(engine); },
};

}  // namespace
}  // namespace cyllm::echo

extern "C" __attribute__((visibility("default"))) const cyllm_engine_api* cyllm_engine_entry(
    const cyllm_host* host) {
  return host && host->abi_major == CYLLM_ENGINE_ABI_MAJOR ? &cyllm::echo::kApi : nullptr;
}
