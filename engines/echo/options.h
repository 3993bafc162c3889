// What a registry entry can tell the echo engine (README.md here).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cyllm::echo {

struct Options {
  double ttft_ms = 0, itl_ms = 0, load_ms = 0;
  bool stamp = false, refuse = false, load_fails = false;
  std::optional<uint32_t> reply_tokens, fail_after, hang_after, crash_after, max_running;
};

// From the config of cyllm_engine_api.create. On failure `error` says which key and what is allowed.
std::optional<Options> ParseOptions(std::string_view config_json, std::string* error);

}  // namespace cyllm::echo
