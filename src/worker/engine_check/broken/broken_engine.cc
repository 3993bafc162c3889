// The template engine with one thing wrong, named by the environment variable CYLLM_DEFECT. Its calls and
// events pass through here and are damaged on the way.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iterator>
#include <latch>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

#define cyllm_engine_entry undamaged_entry
#include "plugin.cc"  // NOLINT: of the template
#undef cyllm_engine_entry

namespace {

namespace sdk = cyllm::sdk;

bool Has(std::string_view defect) {
  const char* value = std::getenv("CYLLM_DEFECT");
  return value && defect == value;
}

void* volatile leaked;  // volatile: a compiler may leave out what is never looked at

const cyllm_engine_api& Real() { return shout::kApi; }

struct Wrapper {
  cyllm_engine* real = nullptr;
  cyllm_callbacks host{};
  cyllm_str kept{};
  bool going = false;
};

Wrapper* Of(cyllm_engine* engine) { return reinterpret_cast<Wrapper*>(engine); }

void Damage(const Wrapper& wrapper, cyllm_event event, std::vector<cyllm_event>& out) {
  static const char kHalf[] = "\xC3";
  if (event.type == CYLLM_EVENT_TEXT) {
    if (Has("offsets")) event.end.text_bytes += 1;
    if (Has("half a code point")) event.text = {kHalf, 1};
    if (Has("half a code point")) event.end.text_bytes = 1;
  }
  if (event.type == CYLLM_EVENT_FINISHED) {
    if (Has("completion usage")) event.completion_tokens += 2;
    if (Has("prompt usage")) event.prompt_tokens += 1;
    if (Has("finished twice")) out.push_back(event);
    if (Has("no finished")) return;
  }
  if (event.type == CYLLM_EVENT_END) {
    if (Has("no end") || (Has("destroy forgets") && wrapper.going)) return;
    if (Has("two ends")) out.push_back(event);
  }
  out.push_back(event);
  if (event.type == CYLLM_EVENT_END && Has("event after end"))
    out.push_back(sdk::MakeEvent(event.id, CYLLM_EVENT_TEXT));
  if (event.type == CYLLM_EVENT_ACCEPTED && Has("accepted twice")) out.push_back(event);
}

// Those of which `last` is true to the end, otherwise in their order.
template <class F>
void MoveToEnd(std::vector<cyllm_event>& events, F last) {
  std::vector<cyllm_event> moved;
  std::ranges::copy_if(events, std::back_inserter(moved), last);
  std::erase_if(events, last);
  events.insert(events.end(), moved.begin(), moved.end());
}

void OnEvents(void* ctx, const cyllm_event* events, size_t n) {
  const auto& wrapper = *static_cast<Wrapper*>(ctx);
  std::vector<cyllm_event> out;
  for (size_t i = 0; i < n; ++i) Damage(wrapper, sdk::At(events, i), out);
  if (Has("delta before accepted"))
    MoveToEnd(out, [](const cyllm_event& e) { return e.type == CYLLM_EVENT_ACCEPTED; });
  const auto tell = [&](const cyllm_event* from, size_t count) {
    if (count > 0) wrapper.host.events(wrapper.host.ctx, from, count);
  };
  if (!Has("two threads")) return tell(out.data(), out.size());
  // Two requests of one step, told by a thread each.
  const uint64_t first = out.empty() ? 0 : out[0].id;
  MoveToEnd(out, [first](const cyllm_event& e) { return e.id != first; });
  const auto other = std::ranges::find_if(out, [first](const cyllm_event& e) { return e.id != first; });
  const auto mine = static_cast<size_t>(other - out.begin());
  std::latch both(2);
  std::thread thread([&] {
    both.arrive_and_wait();
    tell(out.data() + mine, out.size() - mine);
  });
  both.arrive_and_wait();
  tell(out.data(), mine);
  thread.join();
}

cyllm_engine* Create(cyllm_str config, const cyllm_callbacks* callbacks, cyllm_progress_fn progress,
                     void* ctx, cyllm_error* error) {
  if (Has("ignores progress") && progress) progress(ctx, 0.5, {}), progress = nullptr;
  if (Has("bad progress") && progress) progress(ctx, 1.5, {});
  auto wrapper = new Wrapper;
  wrapper->host = sdk::Read(callbacks);
  const cyllm_callbacks own = {sizeof own, wrapper, OnEvents, nullptr};
  if (Has("loads anything")) config = sdk::Str(R"({"model": {}})");
  if (Has("throws")) throw std::runtime_error("thrown");
  wrapper->real = Real().create(config, &own, progress, ctx, error);
  if (wrapper->real) return reinterpret_cast<cyllm_engine*>(wrapper);
  delete wrapper;
  if (Has("leaks memory")) leaked = std::malloc(1000);
  if (Has("leaks files")) static_cast<void>(open("/dev/null", O_RDONLY));
  if (Has("leaks threads")) std::thread([] { pause(); }).detach();
  if (Has("no reason") && error) error->message[0] = 0;
  return nullptr;
}

void Describe(cyllm_engine* engine, cyllm_description* out) {
  if (Has("writes past")) {
    cyllm_description all{};
    all.size = sizeof all;
    Real().describe(Of(engine)->real, &all);
    all.size = out->size;
    std::memcpy(out, &all, sizeof all);
    return;
  }
  Real().describe(Of(engine)->real, out);
  if (Has("more than the manifest")) out->capabilities |= CYLLM_CAP_LOGPROBS;
  if (Has("claims tools")) out->capabilities |= CYLLM_CAP_TOOLS;
}

int32_t Submit(cyllm_engine* engine, const cyllm_request* in, cyllm_error* error) {
  if (Has("crashes on newer hosts") && in->size > sizeof *in) std::abort();
  if (Has("hangs in submit")) pause();
  if (Has("slow submit")) std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  cyllm_request request = sdk::Read(in);
  if (Has("reads past")) request = *in;
  if (Has("keeps pointers")) Of(engine)->kept = request.messages_json;
  cyllm_sampling sampling = sdk::Read(request.sampling);
  if (Has("stops in the output")) sampling.n_stop = 0;
  request.sampling = &sampling;
  if (Has("ignores credit")) request.credit = 1'000'000;
  if (Has("a token too many") && request.max_tokens < 1000) request.max_tokens += 1;
  if (Has("any n") && (request.n == 0 || request.n > 64)) request.n = 1;
  const int32_t code = Real().submit(Of(engine)->real, &request, error);
  if (code == CYLLM_RESOURCE_EXHAUSTED) {
    if (Has("overload is internal")) return sdk::Fail(error, CYLLM_INTERNAL, "full");
    if (Has("overload is final")) return sdk::Fail(error, code, "full");
  }
  return code;
}

void Destroy(cyllm_engine* engine) {
  Wrapper* wrapper = Of(engine);
  wrapper->going = true;
  if (Has("keeps pointers") && wrapper->kept.len > 0)
    static_cast<void>(*static_cast<const volatile char*>(wrapper->kept.data));
  Real().destroy(wrapper->real);
  delete wrapper;
}

cyllm_engine_api Table() {
  cyllm_engine_api api = Real();
  api.create = Create;
  api.describe = Describe;
  api.submit = Submit;
  api.cancel = [](cyllm_engine* engine, uint64_t id) {
    if (!Has("ignores cancel")) Real().cancel(Of(engine)->real, id);
  };
  api.credit = [](cyllm_engine* engine, uint64_t id, uint32_t events) {
    if (!Has("ignores more credit")) Real().credit(Of(engine)->real, id, events);
  };
  api.stats = [](cyllm_engine* engine, cyllm_stats* out) {
    Real().stats(Of(engine)->real, out);
    if (Has("always busy")) out->running = 1;
  };
  api.drain = [](cyllm_engine* engine) {
    if (!Has("does not drain")) Real().drain(Of(engine)->real);
  };
  api.destroy = Destroy;
  if (Has("lacks a function")) api.stats = nullptr;
  if (Has("another name")) api.name = "other";
  return api;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const cyllm_engine_api* cyllm_engine_entry(
    const cyllm_host* host) {
  static const cyllm_engine_api api = Table();
  if (Has("crashes at entry")) std::abort();
  if (Has("refuses newer hosts") && host->abi_minor > CYLLM_ENGINE_ABI_MINOR) return nullptr;
  return Has("any version") || undamaged_entry(host) ? &api : nullptr;
}
