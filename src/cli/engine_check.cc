// cy-llm engine-check: does a plugin keep the rules of engines/sdk/engine.h?
#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>

#include "cli/settings/tools.h"
#include "cli/startup.h"
#include "worker/engine_check/runner.h"

namespace cyllm {
namespace {

namespace check = engine_check;
namespace json = boost::json;

// The plan, or a sentence on what is wrong with the command line.
Result<check::Plan> MakePlan(const EngineCheckSettings& values) {
  const auto wrong = [](std::string what) {
    return Err(MakeStatus(Code::kInvalidArgument, std::move(what)));
  };
  check::Plan plan;
  plan.library = values.plugin;
  plan.quick = values.quick;
  plan.only = values.only;
  plan.limit = std::chrono::milliseconds(static_cast<int64_t>(values.limit * 1000));
  const std::vector<std::string> names = check::CheckNames();
  for (const std::string& name : plan.only)
    if (std::ranges::find(names, name) == names.end())
      return wrong(
          fmt::format("--only: there is no check '{}'; there are: {}", name, fmt::join(names, ", ")));
  boost::system::error_code ec;
  json::value config = values.config.empty() ? json::object() : json::parse(values.config, ec);
  if (ec || !config.is_object()) return wrong("--config must be a JSON object");
  json::object& model = [&]() -> json::object& {
    json::value& in = config.get_object()["model"];
    return in.is_object() ? in.get_object() : in.emplace_object();
  }();
  if (!model.contains("id")) model["id"] = "check";
  if (!values.model.empty()) {
    std::error_code none;
    const std::filesystem::path path = std::filesystem::absolute(values.model);
    if (!std::filesystem::exists(path, none)) return wrong("--model: there is no file " + path.string());
    plan.model = path.string();
    model["path"] = plan.model;
  }
  plan.config = json::serialize(config);
  return plan;
}

}  // namespace

int RunEngineCheck(const Args& args) {
  EngineCheckSettings values;
  Settings settings("cy-llm engine-check",
                    "Tries to break an engine plugin; tells which rules of the ABI it keeps.");
  values.Declare(settings);
  if (const auto over = LoadSettings(settings, args)) return *over;
  const auto plan = MakePlan(values);
  if (!plan) return Fail(plan.error(), kExitUsage);
  size_t run = 0;
  const int failed = check::RunChecks(*plan, [&](const check::Outcome& outcome) {
    ++run;
    fmt::print("{} ({:.2f} s)\n", check::ToLine(outcome), static_cast<double>(outcome.took.count()) / 1000);
    std::fflush(stdout);
  });
  fmt::print("{} checks, {} failed\n", run, failed);
  return failed ? kExitFailed : kExitOk;
}

}  // namespace cyllm
