// Logging: one line per fact, to stderr. `CY_LLM_LOG_LEVEL` and `CY_LLM_LOG_FORMAT` (text, json) set it up.
// spdlog's functions are thread-safe; use Log()->info("...", ...) with fmt syntax. Requests are logged with
// their request id. Never log prompts, keys or tokens.
#pragma once

#include <spdlog/spdlog.h>

#include <string_view>

namespace cyllm {

// Once, first thing in main. `role` names the process part (gateway, worker...). Unknown levels mean info.
void InitLogging(std::string_view role, std::string_view level, std::string_view format);

inline spdlog::logger* Log() { return spdlog::default_logger_raw(); }

}  // namespace cyllm
