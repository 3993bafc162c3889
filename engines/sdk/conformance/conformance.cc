// Loads any engine plugin and tries to break it, by the rules that engine.h states. Each check is a line; the
// exit status is the number of those that failed.
#include <dlfcn.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "sdk/engine.hpp"

namespace cyllm::sdk {
namespace {

constexpr auto kPatience = std::chrono::seconds(120);

int failures = 0;

void Check(bool ok, const std::string& what) {
  std::printf("%s  %s\n", ok ? "ok    " : "FAILED", what.c_str());
  std::fflush(stdout);
  failures += !ok;
}

struct Seen {
  int accepted = 0, deltas = 0, finished = 0, ends = 0;
  int32_t code = CYLLM_OK;
  bool order_broken = false;  // Accepted not first, something after the end, offsets that go back
  uint64_t tokens = 0, text_bytes = 0;
};

// What the engine tells its host.
class Host {
 public:
  static void OnEvents(void* self, const cyllm_event* events, size_t n) {
    auto& host = *static_cast<Host*>(self);
    if (host.inside_.exchange(true)) host.overlapped_ = true;
    {
      std::lock_guard lock(host.mutex_);
      for (size_t i = 0; i < n; ++i) host.Take(Read(&events[i]));
    }
    host.changed_.notify_all();
    host.inside_ = false;
  }

  bool Wait(uint64_t id, const std::function<bool(const Seen&)>& until) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return until(seen_[id]); });
  }
  Seen seen(uint64_t id) {
    std::lock_guard lock(mutex_);
    return seen_[id];
  }
  bool overlapped() const { return overlapped_; }
  bool all_ended_once() {
    std::lock_guard lock(mutex_);
    for (const auto& [id, seen] : seen_) {
      if (seen.ends != 1 || seen.order_broken) return false;
    }
    return true;
  }
  void Forget() {
    std::lock_guard lock(mutex_);
    seen_.clear();
  }

 private:
  void Take(const cyllm_event& e) {
    Seen& s = seen_[e.id];
    if (s.ends > 0) s.order_broken = true;
    switch (e.type) {
      case CYLLM_EVENT_ACCEPTED:
        s.order_broken |= s.accepted++ > 0 || s.deltas > 0;
        break;
      case CYLLM_EVENT_TEXT:
        s.order_broken |= s.accepted == 0 || e.text.len > (64u << 20);
        if (e.choice == 0) {
          s.order_broken |= e.end.tokens < s.tokens || e.end.text_bytes != s.text_bytes + e.text.len;
          s.tokens = e.end.tokens;
          s.text_bytes = e.end.text_bytes;
        }
        ++s.deltas;
        break;
      case CYLLM_EVENT_FINISHED:
        ++s.finished;
        break;
      case CYLLM_EVENT_END:
        ++s.ends;
        if (e.error) s.code = Read(e.error).code;
        break;
      default:
        break;
    }
  }

  std::atomic<bool> inside_{false}, overlapped_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, Seen> seen_;
};

class Tester {
 public:
  Tester(const cyllm_engine_api* api, std::string config) : api_(api), config_(std::move(config)) {}

  void Run() {
    LoadingGarbageFails();
    if (!Create()) return;
    Describes();
    Answers();
    SeveralChoices();
    Refusals();
    UnknownIds();
    Credit();
    Cancels();
    ManyThreads();
    const bool once = host_.all_ended_once();
    Check(once, "every request ended exactly once, in order");
    Drains();
    DestroyWithRunningRequests();
    Check(!host_.overlapped(), "callbacks never overlapped");
  }

 private:
  cyllm_engine* Make(const std::string& config, cyllm_error* error) {
    const cyllm_callbacks callbacks = {sizeof callbacks, &host_, Host::OnEvents};
    error->size = sizeof *error;
    return api_->create(Str(config), &callbacks, nullptr, nullptr, error);
  }

  void LoadingGarbageFails() {
    for (const char* config : {"", "{", "[]", R"({"model": 3})"}) {
      cyllm_error error{};
      cyllm_engine* engine = Make(config, &error);
      Check(!engine && error.code != CYLLM_OK && error.message[0], std::string("create refuses ") + config);
      if (engine) api_->destroy(engine);
    }
  }

  bool Create() {
    cyllm_error error{};
    engine_ = Make(config_, &error);
    Check(engine_ != nullptr, std::string("create ") + (engine_ ? "" : error.message));
    return engine_ != nullptr;
  }

  void Describes() {
    cyllm_description d;
    std::memset(&d, 0, sizeof d);
    d.size = sizeof d;
    api_->describe(engine_, &d);
    Check(d.capabilities != 0 && std::memchr(d.digest, 0, sizeof d.digest), "describe");
    // An older host's struct is shorter: nothing is written past it.
    unsigned char small[sizeof(cyllm_stats)];
    std::memset(small, 0x5a, sizeof small);
    cyllm_stats head;
    head.size = 16;
    std::memcpy(small, &head, sizeof head.size);
    api_->stats(engine_, reinterpret_cast<cyllm_stats*>(small));
    bool clean = true;
    for (size_t i = 16; i < sizeof small; ++i) clean &= small[i] == 0x5a;
    Check(clean, "stats writes no further than the host's size");
  }

  // Submits a chat; the id, or 0 when it was refused (with `error`).
  uint64_t Submit(uint32_t max_tokens, uint32_t credit, cyllm_error* error, uint32_t n = 1,
                  std::string_view messages = R"([{"role":"user","content":"one two three four"}])") {
    cyllm_sampling sampling;
    std::memset(&sampling, 0, sizeof sampling);
    sampling.size = sizeof sampling;
    const double unset = std::numeric_limits<double>::quiet_NaN();
    sampling.temperature = 0;
    sampling.top_p = sampling.min_p = sampling.repetition_penalty = unset;
    sampling.presence_penalty = sampling.frequency_penalty = unset;
    sampling.top_k = std::numeric_limits<int32_t>::min();
    sampling.ignore_eos = 1;
    cyllm_request request;
    std::memset(&request, 0, sizeof request);
    request.size = sizeof request;
    request.id = ++ids_;
    request.kind = CYLLM_KIND_CHAT;
    request.model = Str("default");
    request.messages_json = Str(messages);
    request.max_tokens = max_tokens;
    request.n = n;
    request.credit = credit;
    request.sampling = &sampling;
    error->size = sizeof *error;
    return api_->submit(engine_, &request, error) == CYLLM_OK ? request.id : 0;
  }

  bool WaitEnd(uint64_t id) {
    return host_.Wait(id, [](const Seen& s) { return s.ends > 0; });
  }

  void Answers() {
    cyllm_error error{};
    const uint64_t id = Submit(8, 1000, &error);
    Check(id != 0, std::string("submit ") + error.message);
    const bool ended = id != 0 && WaitEnd(id);
    const Seen s = host_.seen(id);
    Check(ended && s.code == CYLLM_OK && s.accepted == 1 && s.finished == 1 && s.tokens == 8,
          "8 tokens, one Accepted, one Finished, one End");
    const uint64_t none = Submit(0, 1000, &error);
    Check(none && WaitEnd(none) && host_.seen(none).deltas == 0 && host_.seen(none).finished == 1,
          "max_tokens 0: no token, finished");
  }

  void SeveralChoices() {
    cyllm_error error{};
    const uint64_t id = Submit(4, 1000, &error, 3);
    Check(id && WaitEnd(id) && host_.seen(id).finished == 3, "three choices, three Finished");
  }

  void Refusals() {
    for (const char* messages : {"", "{", "3", "[3]", R"([{"role":7}])"}) {
      cyllm_error error{};
      const uint64_t id = Submit(4, 1000, &error, 1, messages);
      // Either way of saying no will do; a crash or silence will not.
      const bool refused = id == 0 && error.code != CYLLM_OK && error.message[0];
      Check(refused || (id != 0 && WaitEnd(id)), std::string("garbage as messages: ") + messages);
    }
  }

  void UnknownIds() {
    api_->cancel(engine_, 999'999'999);
    api_->credit(engine_, 999'999'999, 5);
    api_->cancel(engine_, 1);  // ended long ago
    cyllm_error error{};
    const uint64_t id = Submit(2, 100, &error);
    Check(id && WaitEnd(id), "unknown ids are ignored");
  }

  void Credit() {
    cyllm_error error{};
    const uint64_t id = Submit(20, 3, &error);
    const bool three = id && host_.Wait(id, [](const Seen& s) { return s.deltas >= 3; });
    // Another request runs to its end meanwhile: steps were made, and none of them for the first.
    const uint64_t other = Submit(10, 1000, &error);
    Check(three && other && WaitEnd(other) && host_.seen(id).deltas == 3, "no more events than credit");
    api_->credit(engine_, id, 1000);
    Check(WaitEnd(id) && host_.seen(id).tokens == 20, "credit goes on where it stopped");
    const uint64_t zero = Submit(5, 0, &error);
    const uint64_t third = Submit(5, 100, &error);
    Check(zero && third && WaitEnd(third) && host_.seen(zero).deltas == 0, "no credit, no event");
    api_->cancel(engine_, zero);
    Check(WaitEnd(zero) && host_.seen(zero).code == CYLLM_CANCELLED, "cancel without credit");
  }

  void Cancels() {
    cyllm_error error{};
    const uint64_t at_once = Submit(10'000, 100'000, &error);
    if (at_once) {
      api_->cancel(engine_, at_once);
      api_->cancel(engine_, at_once);
    }
    Check(at_once && WaitEnd(at_once), "cancel at once, twice");
    const uint64_t running = Submit(CYLLM_MAX_TOKENS_UNSET, 1, &error);
    Check(running && host_.Wait(running, [](const Seen& s) { return s.deltas > 0; }),
          "a token before the cancel");
    api_->cancel(engine_, running);
    Check(WaitEnd(running), "cancel while it runs");
  }

  void ManyThreads() {
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    std::mutex submit;  // ids are this program's business
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 10; ++i) {
          cyllm_error error{};
          uint64_t id;
          {
            std::lock_guard lock(submit);
            id = Submit(4, 2, &error);
          }
          if (id == 0) {
            wrong += error.code != CYLLM_RESOURCE_EXHAUSTED;
            continue;
          }
          if ((t + i) % 3 == 0) api_->cancel(engine_, id);
          api_->credit(engine_, id, 100);
          wrong += !WaitEnd(id);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    Check(wrong == 0, "80 requests of 8 threads, a third of them cancelled");
  }

  void Drains() {
    cyllm_error error{};
    const uint64_t id = Submit(5, 100, &error);
    api_->drain(engine_);
    Check(id && host_.seen(id).ends == 1, "drain returns when requests have ended");
    Check(Submit(5, 100, &error) == 0 && error.code == CYLLM_UNAVAILABLE, "no submit while draining");
    api_->destroy(engine_);
  }

  void DestroyWithRunningRequests() {
    host_.Forget();
    if (!Create()) return;
    cyllm_error error{};
    std::vector<uint64_t> ids;
    for (int i = 0; i < 5; ++i) ids.push_back(Submit(10'000, 1, &error));
    api_->destroy(engine_);
    bool all = true;
    for (const uint64_t id : ids) all &= id == 0 || host_.seen(id).ends == 1;
    Check(all, "destroy ends what runs");
  }

  const cyllm_engine_api* const api_;
  const std::string config_;
  Host host_;
  cyllm_engine* engine_ = nullptr;
  std::atomic<uint64_t> ids_{0};
};

int Main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr, "usage: cyllm-engine-conformance PLUGIN.so [CONFIG-JSON]\n");
    return 2;
  }
  void* library = dlopen(argv[1], RTLD_LOCAL | RTLD_NOW);
  const auto entry =
      library ? reinterpret_cast<cyllm_engine_entry_fn>(dlsym(library, "cyllm_engine_entry")) : nullptr;
  if (!entry) {
    std::fprintf(stderr, "%s: %s\n", argv[1], library ? "no cyllm_engine_entry" : dlerror());
    return 2;
  }
  static const cyllm_host host = {sizeof(cyllm_host),
                                  CYLLM_ENGINE_ABI_MAJOR,
                                  CYLLM_ENGINE_ABI_MINOR,
                                  nullptr,
                                  [](void*, int, cyllm_str) {},
                                  [](void*, cyllm_str, double) {},
                                  [](void*) -> uint64_t { return 0; }};
  cyllm_host stranger = host;
  stranger.abi_major = CYLLM_ENGINE_ABI_MAJOR + 1;
  Check(entry(&stranger) == nullptr, "a host of another major version is refused");
  const cyllm_engine_api* api = entry(&host);
  Check(api && api->size >= sizeof(cyllm_engine_api) && api->abi_major == CYLLM_ENGINE_ABI_MAJOR,
        "the table");
  if (!api) return 1;
  Tester(api, argc > 2 ? argv[2] : "{}").Run();
  std::printf("%s %s: %d failed\n", api->name, api->version, failures);
  return failures;
}

}  // namespace
}  // namespace cyllm::sdk

int main(int argc, char** argv) { return cyllm::sdk::Main(argc, argv); }
