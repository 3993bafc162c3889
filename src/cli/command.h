// The subcommands of `cy-llm`. Each takes the words after its name, runs to its end, and returns the exit
// status: 0 done, 1 failed, 2 wrong usage or configuration.
#pragma once

#include <string>
#include <vector>

namespace cyllm {

using Args = std::vector<std::string>;

int RunServe(const Args& args);
int RunGateway(const Args& args);
int RunCoordinator(const Args& args);
int RunWorker(const Args& args);
int RunWorkers(const Args& args);
int RunPull(const Args& args);
int RunEngines(const Args& args);
int RunEngineCheck(const Args& args);
int RunChat(const Args& args);
int RunHealthcheck(const Args& args);
int RunVersion(const Args& args);

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

}  // namespace cyllm
