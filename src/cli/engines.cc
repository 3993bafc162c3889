// cy-llm engines: lists the plugins by their manifests, loading none.
#include <fmt/format.h>

#include "cli/settings/tools.h"
#include "cli/startup.h"
#include "worker/engine_host/plugin.h"

namespace cyllm {

int RunEngines(const Args& args) {
  EnginesSettings values;
  Settings settings("cy-llm engines", "Lists the engines that a worker can load.");
  values.Declare(settings);
  if (const auto over = LoadSettings(settings, args)) return *over;
  const auto manifests = ReadManifests(EngineDir(values.engine_dir));
  if (!manifests) return Fail(manifests.error());
  for (const Manifest& m : *manifests) {
    fmt::print("{}\n  {}\n  needs a model file: {}; default model: {}\n", m.name, m.description,
               m.needs_model_file ? "yes" : "no", m.default_model.empty() ? "none" : m.default_model);
    if (!m.options.empty()) fmt::print("  options: {}\n", fmt::join(m.options, ", "));
  }
  return kExitOk;
}

}  // namespace cyllm
