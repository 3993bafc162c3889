// cy-llm engines: lists the plugins by their manifests and files, loading none, and the servers that can be
// engines.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <boost/json.hpp>

#include "cli/settings/tools.h"
#include "cli/startup.h"
#include "upstream/engine.h"
#include "upstream/process/child.h"
#include "upstream/process/launch.h"
#include "worker/engine_host/listing.h"

namespace cyllm {
namespace {

namespace json = boost::json;

struct Server {
  std::string name;
  std::vector<std::string> also;  // its other names
  std::string program;            // empty: it is never started by us
  bool here = false;
};

std::vector<Server> Servers() {
  std::vector<Server> servers;
  for (const upstream::Profile& profile : upstream::Profiles()) {
    Server server;
    server.name = profile.name;
    for (const upstream::EngineName& name : upstream::EngineNames())
      if (name.profile == profile.name && name.name != profile.name) server.also.emplace_back(name.name);
    if (!upstream::LaunchOptions(profile).empty()) server.program = upstream::ProgramOf(profile);
    server.here = !FindExecutable(server.program).empty();
    servers.push_back(std::move(server));
  }
  return servers;
}

void Print(const EngineListing& engine) {
  const Manifest& m = engine.manifest;
  const std::string verdict = engine.why_not.empty()
                                  ? "can run here"
                                  : fmt::format("cannot run here: {}", fmt::join(engine.why_not, "; "));
  if (m.library.empty()) {
    fmt::print("{}: {}\n", m.name, verdict);
    return;
  }
  fmt::print("{}{} (ABI {}.{}): {}\n", m.name, m.version.empty() ? "" : ", " + m.version, m.abi_major,
             m.abi_minor, verdict);
  if (!m.description.empty()) fmt::print("  {}\n", m.description);
  fmt::print("  capabilities: {}\n  devices: {}\n  needs a model file: {}; default model: {}\n",
             fmt::join(CapabilityNames(m.capabilities), ", "),
             m.devices.empty() ? "not said" : fmt::format("{}", fmt::join(m.devices, ", ")),
             m.needs_model_file ? "yes" : "no", m.default_model.empty() ? "none" : m.default_model);
  if (!m.options.empty()) fmt::print("  options: {}\n", fmt::join(m.options, ", "));
}

void Print(const Server& server) {
  fmt::print("{}{}: a server, ", server.name,
             server.also.empty() ? "" : fmt::format(" (also {})", fmt::join(server.also, ", ")));
  if (server.program.empty()) {
    fmt::print("by URL\n");
  } else if (server.here && server.program.starts_with("python")) {
    fmt::print("by URL, or started here if {} has it\n", server.program);
  } else if (server.here) {
    fmt::print("by URL or started here ({})\n", server.program);
  } else {
    fmt::print("by URL; cannot be started here: there is no program {} in PATH\n", server.program);
  }
}

json::array Texts(const std::vector<std::string>& texts) { return json::array(texts.begin(), texts.end()); }

void PrintJson(const std::vector<EngineListing>& engines, const std::vector<Server>& servers) {
  json::array plugins, others;
  for (const EngineListing& e : engines) {
    const Manifest& m = e.manifest;
    plugins.push_back({{"name", m.name},
                       {"version", m.version},
                       {"abi", fmt::format("{}.{}", m.abi_major, m.abi_minor)},
                       {"description", m.description},
                       {"capabilities", Texts(CapabilityNames(m.capabilities))},
                       {"devices", Texts(m.devices)},
                       {"options", Texts(m.options)},
                       {"library", m.library},
                       {"runs_here", e.why_not.empty()},
                       {"why_not", Texts(e.why_not)}});
  }
  for (const Server& s : servers)
    others.push_back(
        {{"name", s.name}, {"also", Texts(s.also)}, {"program", s.program}, {"starts_here", s.here}});
  fmt::print("{}\n", json::serialize(json::object{{"plugins", plugins}, {"servers", others}}));
}

}  // namespace

int RunEngines(const Args& args) {
  EnginesSettings values;
  Settings settings("cy-llm engines", "Lists the engines, and why one cannot run here. Loads none.");
  values.Declare(settings);
  if (const auto over = LoadSettings(settings, args)) return *over;
  const auto engines = ListEngines(EngineDir(values.engine_dir));
  if (!engines) return Fail(engines.error());
  const std::vector<Server> servers = Servers();
  if (values.json) {
    PrintJson(*engines, servers);
    return kExitOk;
  }
  for (const EngineListing& engine : *engines) Print(engine);
  for (const Server& server : servers) Print(server);
  return kExitOk;
}

}  // namespace cyllm
