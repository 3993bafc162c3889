#include <cstddef>
#include <filesystem>
#include <fstream>

#include "worker/engine_check/checks.h"
#include "worker/engine_check/client.h"
#include "worker/engine_check/held.h"

namespace cyllm::engine_check {

namespace {

// A struct for the engine to fill, of `size` bytes, with a guard behind it.
template <class T>
class Guarded {
 public:
  explicit Guarded(size_t size) : memory_(size + kGuard, kMark), size_(size) {
    std::memcpy(memory_.data(), &size, sizeof size);
  }
  T* get() { return reinterpret_cast<T*>(memory_.data()); }
  bool intact() const {
    size_t size = 0;
    std::memcpy(&size, memory_.data(), sizeof size);
    if (size != size_) return false;
    for (size_t i = size_; i < memory_.size(); ++i)
      if (memory_[i] != kMark) return false;
    return true;
  }

 private:
  static constexpr size_t kGuard = 64;
  static constexpr char kMark = 0x5A;
  std::vector<char> memory_;
  const size_t size_;
};

const cyllm_callbacks& Deaf() {
  static const cyllm_callbacks callbacks = {sizeof callbacks, nullptr,
                                            [](void*, const cyllm_event*, size_t) {}};
  return callbacks;
}

void GarbageConfigIsRefused(const Subject& s, const Report& wrong) {
  const std::vector<std::string> configs = {"",
                                            "{",
                                            "null",
                                            "[]",
                                            "7",
                                            "\"text\"",
                                            R"({"model":7})",
                                            "\xff\xfe",
                                            "{}garbage",
                                            std::string(100'000, '[')};
  for (const std::string& config : configs) {
    Guarded<cyllm_error> error(sizeof(cyllm_error));
    cyllm_engine* engine = s.api->create(sdk::Str(config), &Deaf(), nullptr, nullptr, error.get());
    const std::string shown = config.substr(0, 20);
    if (engine) {
      wrong("accepted the config " + shown);
      s.api->destroy(engine);
      continue;
    }
    if (!error.intact()) wrong("wrote past the error");
    if (error.get()->code == CYLLM_OK) wrong("no error code for the config " + shown);
    if (error.get()->message[0] == 0) wrong("no message for the config " + shown);
  }
}

void SmallErrorIsRespected(const Subject& s, const Report& wrong) {
  Guarded<cyllm_error> error(offsetof(cyllm_error, reason));
  if (cyllm_engine* engine = s.api->create(sdk::Str("{"), &Deaf(), nullptr, nullptr, error.get()))
    return s.api->destroy(engine);  // the check before says so
  if (!error.intact()) wrong("wrote past an older host's error");
}

// What the configuration names is not there, is empty, is something else, breaks off.
void FailedLoadsGiveReasons(const Subject& s, const Report& wrong) {
  const std::string path = s.model;
  if (path.empty()) return wrong.skip("no model file was given");
  const std::filesystem::path folder = s.scratch;
  std::string head(64 * 1024, '\0');
  std::ifstream(path).read(head.data(), static_cast<std::streamsize>(head.size()));
  const std::pair<const char*, std::string> files[] = {
      {"empty", ""}, {"text", "this is no model\n"}, {"zeros", std::string(5000, '\0')}, {"cut short", head}};
  for (const auto& [name, bytes] : files) std::ofstream(folder / name) << bytes;
  for (const char* name : {"not there", "empty", "text", "zeros", "cut short"}) {
    std::string config = s.config;
    for (size_t at; (at = config.find(path)) != std::string::npos;)
      config.replace(at, path.size(), (folder / name).string());
    cyllm_error error{};
    error.size = sizeof error;
    if (cyllm_engine* engine = s.api->create(sdk::Str(config), &Deaf(), nullptr, nullptr, &error)) {
      wrong(std::string("loaded a model file that is ") + name);
      s.api->destroy(engine);
    } else if (error.code == CYLLM_OK || error.message[0] == 0) {
      wrong(std::string("no reason for a model file that is ") + name);
    }
  }
}

// Threads, files and memory are what they were.
void FailedLoadsLeakNothing(const Subject& s, const Report& wrong) {
  const int rounds = s.quick ? 100 : 400;
  const auto fail = [&](int times) {
    for (int i = 0; i < times; ++i) {
      for (const std::string_view config : {"{", R"({"model":7})"}) {
        cyllm_error error{};
        error.size = sizeof error;
        if (cyllm_engine* engine = s.api->create(sdk::Str(config), &Deaf(), nullptr, nullptr, &error))
          s.api->destroy(engine);
      }
    }
  };
  fail(rounds);
  const Held before = HeldNow();
  fail(rounds);
  const Held after = HeldAfter(before);
  TellGrowth(before, after, size_t{32} * 2 * static_cast<size_t>(rounds), wrong);
}

void DestroyGivesBack(const Subject& s, const Report& wrong) {
  const auto once = [&] {
    Client client(s);
    if (client.created() && client.Run({}).code != CYLLM_OK) wrong("failed");
  };
  once();
  once();
  const Held before = HeldNow();
  for (int i = 0; i < 2; ++i) once();
  TellGrowth(before, HeldAfter(before), size_t{2} << 20, wrong);
}

void LoadCanBeStopped(const Subject& s, const Report& wrong) {
  struct Seen {
    int calls = 0;
    bool in_range = true;
  } seen;
  const auto stop = [](void* ctx, double fraction, cyllm_str) {
    auto& it = *static_cast<Seen*>(ctx);
    ++it.calls;
    it.in_range &= fraction >= 0 && fraction <= 1;
    return 1;
  };
  cyllm_error error{};
  error.size = sizeof error;
  cyllm_engine* engine = s.api->create(sdk::Str(s.config), &Deaf(), stop, &seen, &error);
  if (!seen.in_range) wrong("progress outside 0..1");
  if (engine && seen.calls > 0) wrong("loaded although progress said stop");
  if (seen.calls > 1) wrong("went on after progress said stop");
  if (!engine && error.code == CYLLM_OK) wrong("stopped without an error");
  if (engine) s.api->destroy(engine);
}

void DescriptionFitsAnySize(const Subject& s, const Report& wrong) {
  Client client(s);
  if (!client.created()) return wrong("create failed");
  for (const size_t size : {offsetof(cyllm_description, max_model_len), sizeof(cyllm_description),
                            sizeof(cyllm_description) + 128}) {
    Guarded<cyllm_description> d(size);
    s.api->describe(client.engine(), d.get());
    if (!d.intact())
      wrong("wrote past a description of " + std::to_string(size) + " bytes, or changed its size");
    if (d.get()->capabilities == 0) wrong("no capabilities");
    if (size < sizeof(cyllm_description)) continue;
    const std::string_view digest(d.get()->digest, sizeof d.get()->digest);
    if (digest.find('\0') == std::string_view::npos) wrong("the digest is not zero-terminated");
    if (digest[0] == 0) wrong("no digest");
  }
}

void StatsFitAnySize(const Subject& s, const Report& wrong) {
  Client client(s);
  if (!client.created()) return wrong("create failed");
  for (const size_t size :
       {offsetof(cyllm_stats, kv_cells_used), sizeof(cyllm_stats), sizeof(cyllm_stats) + 128}) {
    Guarded<cyllm_stats> stats(size);
    s.api->stats(client.engine(), stats.get());
    if (!stats.intact())
      wrong("wrote past stats of " + std::to_string(size) + " bytes, or changed their size");
    if (stats.get()->running != 0 || stats.get()->waiting != 0) wrong("an idle engine says it is busy");
  }
}

void SeveralEnginesLiveTogether(const Subject& s, const Report& wrong) {
  Client a(s), b(s);
  if (!a.created() || !b.created()) return wrong("create failed");
  if (a.Run({}).code != CYLLM_OK) wrong("the first failed");
  a.Destroy();
  if (b.Run({}).code != CYLLM_OK) wrong("the second failed after the first was destroyed");
}

}  // namespace

std::vector<Check> CreateChecks() {
  return {
      {"garbage as configuration is refused", GarbageConfigIsRefused},
      {"an older host's error is respected", SmallErrorIsRespected},
      {"failed loads give reasons", FailedLoadsGiveReasons},
      {"failed loads leak nothing", FailedLoadsLeakNothing},
      {"a load can be stopped", LoadCanBeStopped},
      {"destroy gives everything back", DestroyGivesBack},
      {"descriptions of any size", DescriptionFitsAnySize},
      {"stats of any size", StatsFitAnySize},
      {"several engines live together", SeveralEnginesLiveTogether},
  };
}

}  // namespace cyllm::engine_check
