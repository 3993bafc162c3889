// cyllm-engine-conformance PLUGIN.so [CONFIG-JSON]: loads an engine plugin and tries to break it.
#include <dlfcn.h>

#include <chrono>
#include <cstdio>

#include "sdk/conformance/checks.h"
#include "sdk/engine.hpp"

namespace cyllm::conformance {
namespace {

void HostLog(void*, int level, cyllm_str message) {
  if (level >= CYLLM_LOG_ERROR)
    std::fprintf(stderr, "    engine: %.*s\n", static_cast<int>(message.len), message.data);
}

uint64_t HostNow(void*) {
  return static_cast<uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

cyllm_host Host(uint32_t major) {
  return {sizeof(cyllm_host),
          major,
          CYLLM_ENGINE_ABI_MINOR,
          nullptr,
          HostLog,
          [](void*, cyllm_str, double) {},
          HostNow};
}

int Main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr, "usage: %s PLUGIN.so [CONFIG-JSON]\n", argv[0]);
    return 2;
  }
  Subject subject;
  subject.config = argc > 2 ? argv[2] : R"({"model": {"id": "m"}})";
  void* library = dlopen(argv[1], RTLD_LOCAL | RTLD_NOW);
  if (!library) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  const auto entry = reinterpret_cast<cyllm_engine_entry_fn>(dlsym(library, "cyllm_engine_entry"));
  static const cyllm_host other = Host(CYLLM_ENGINE_ABI_MAJOR + 1), host = Host(CYLLM_ENGINE_ABI_MAJOR);
  if (!entry || entry(&other) || !(subject.api = entry(&host))) {
    std::printf("FAILED the entry: it must be there, refuse another major version and take this one\n");
    return 1;
  }
  int failed = 0;
  for (const std::vector<Check>& checks :
       {CreateChecks(), AnswerChecks(), CapabilityChecks(), LifeChecks()}) {
    for (const Check& check : checks) {
      std::printf("... %s\n", check.name);
      std::fflush(stdout);
      int found = 0;
      check.run(subject, [&](const std::string& what) {
        ++found;
        std::printf("    %s\n", what.c_str());
      });
      std::printf("%s %s\n", found ? "FAILED" : "ok    ", check.name);
      failed += found > 0;
    }
  }
  std::printf("%s: %d failed\n", subject.api->name, failed);
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace cyllm::conformance

int main(int argc, char** argv) { return cyllm::conformance::Main(argc, argv); }
