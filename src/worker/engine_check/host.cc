#include "worker/engine_check/host.h"

#include <chrono>
#include <cstdio>

namespace cyllm::engine_check {

cyllm_host MakeHost(uint32_t major, uint32_t minor) {
  return {sizeof(cyllm_host),
          major,
          minor,
          nullptr,
          [](void*, int level, cyllm_str message) {
            if (level >= CYLLM_LOG_ERROR)
              std::fprintf(stderr, "engine: %.*s\n", static_cast<int>(message.len), message.data);
          },
          [](void*, cyllm_str, double) {},
          [](void*) {
            const auto now = std::chrono::steady_clock::now().time_since_epoch();
            return static_cast<uint64_t>(std::chrono::nanoseconds(now).count());
          }};
}

}  // namespace cyllm::engine_check
