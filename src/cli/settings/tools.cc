#include "cli/settings/tools.h"

#include "cli/settings/process.h"

namespace cyllm {

void PullSettings::Declare(Settings& settings) {
  settings.AddPositional("SOURCE", "smollm2, hf:owner/repo/file.gguf, a URL or a path", &source, true);
  settings.Add({.key = "worker.model_cache",
                .flag = "--model-cache",
                .env = {"CY_LLM_MODEL_CACHE"},
                .help = "Where fetched models are kept; empty: cy-llm/models in $XDG_CACHE_HOME or ~/.cache",
                .metavar = "DIR"},
               &model_cache);
}

void ChatSettings::Declare(Settings& settings) {
  settings.Add(
      {.key = "chat.url",
       .flag = "--url",
       .env = {"CY_LLM_URL"},
       .help = "The server, with or without /v1",
       .metavar = "URL",
       .check = {[](const std::string& u) { return u.starts_with("http://") || u.starts_with("https://"); },
                 "an http:// or https:// URL"}},
      &url);
  settings.Add({.key = "chat.model",
                .flag = "--model",
                .help = "Model to talk to; empty: the server's default",
                .metavar = "MODEL"},
               &model);
  settings.Add({.key = "chat.system",
                .flag = "--system",
                .help = "System message put before the conversation",
                .metavar = "TEXT"},
               &system);
  settings.Add({.key = "chat.once",
                .flag = "--once",
                .help = "Send one message, print the answer, and exit",
                .metavar = "TEXT"},
               &once);
  settings.Add({.key = "chat.temperature",
                .flag = "--temperature",
                .help = "Sampling temperature; -1: the server's default",
                .metavar = "T"},
               &temperature, -1, 2);
  settings.Add({.key = "chat.max_tokens",
                .flag = "--max-tokens",
                .help = "Longest answer in tokens; 0: the server's default",
                .metavar = "N"},
               &max_tokens, 0, 1 << 30);
  settings.Add({.key = "chat.api_token",
                .env = {"CY_LLM_API_KEY", "GATEWAY_API_TOKEN"},
                .help = "Bearer token to send",
                .secret = true,
                .check = TokenCheck()},
               &api_token);
}

void WorkersSettings::Declare(Settings& settings) {
  settings.AddPositional("VERB", "list, add, remove, drain or undrain", &verb, false);
  settings.AddPositional("WORKER", "its address, name or id; for all but list", &worker, false);
  settings.Add(
      {.key = "workers.url",
       .flag = "--url",
       .env = {"CY_LLM_COORDINATOR_URL"},
       .help = "The coordinator's HTTP address (http_listen)",
       .metavar = "URL",
       .check = {[](const std::string& u) { return u.starts_with("http://") || u.starts_with("https://"); },
                 "an http:// or https:// URL"}},
      &url);
  settings.Add({.key = "workers.deadline",
                .flag = "--deadline",
                .help = "Seconds that running requests may take before they move (drain, remove)",
                .metavar = "SECONDS"},
               &deadline, 0, 604'800);
  settings.Add({.key = "workers.wait", .flag = "--wait", .help = "Return when the drain or removal is done"},
               &wait);
  settings.Add({.key = "workers.json", .flag = "--json", .help = "Print the coordinator's answer as it is"},
               &json);
  settings.Add({.key = "workers.admin_key",
                .env = {"CY_LLM_ADMIN_KEY"},
                .help = "Key of the admin API",
                .secret = true,
                .check = TokenCheck()},
               &admin_key);
}

void EnginesSettings::Declare(Settings& settings) {
  settings.Add({.key = "worker.engine_dir",
                .flag = "--engine-dir",
                .env = {"CY_LLM_ENGINE_DIR"},
                .help = "Folder of the engine plugins; empty: engines, beside the program",
                .metavar = "DIR"},
               &engine_dir);
  settings.Add({.key = "engines.json", .flag = "--json", .help = "Print everything as one JSON object"},
               &json);
}

void EngineCheckSettings::Declare(Settings& settings) {
  settings.AddPositional("PLUGIN", "the library, its manifest.json beside it", &plugin, true);
  settings.Add({.key = "engine_check.config",
                .flag = "--config",
                .help = "Configuration with which it loads, as `create` gets it",
                .metavar = "JSON"},
               &config);
  settings.Add({.key = "engine_check.model",
                .flag = "--model",
                .help = "Model file for it to load",
                .metavar = "FILE"},
               &model);
  settings.Add({.key = "engine_check.quick",
                .flag = "--quick",
                .help = "A thousand requests where it would be ten thousand"},
               &quick);
  settings.Add({.key = "engine_check.limit",
                .flag = "--limit",
                .help = "Longest time for a check; what takes longer hangs, and has failed",
                .metavar = "SECONDS"},
               &limit, 1, 86'400);
  settings.Add({.key = "engine_check.only",
                .flag = "--only",
                .help = "Names of the checks to run; empty: all",
                .metavar = "NAME"},
               &only);
}

}  // namespace cyllm
