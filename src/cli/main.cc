// Finds the subcommand and hands over.
#include <cstdio>
#include <string_view>

#include "cli/command.h"

namespace {

struct Command {
  std::string_view name;
  int (*run)(const cyllm::Args&);
  const char* help;
};

constexpr Command kCommands[] = {
    {"serve", cyllm::RunServe, "gateway, coordinator and worker in one process"},
    {"gateway", cyllm::RunGateway, "the HTTP API in front of coordinators"},
    {"coordinator", cyllm::RunCoordinator, "gRPC in front of workers"},
    {"worker", cyllm::RunWorker, "the models of this machine over gRPC"},
    {"workers", cyllm::RunWorkers, "list, add, drain and remove the workers of a coordinator"},
    {"pull", cyllm::RunPull, "fetch a model into the cache"},
    {"engines", cyllm::RunEngines, "list the engines"},
    {"engine-check", cyllm::RunEngineCheck, "does an engine plugin keep the ABI's rules?"},
    {"chat", cyllm::RunChat, "talk to a running server in the terminal"},
    {"healthcheck", cyllm::RunHealthcheck, "ask a URL of a server whether it is well; for containers"},
    {"version", cyllm::RunVersion, "print the version"},
};

void PrintUsage(FILE* out) {
  std::fputs("Usage: cy-llm COMMAND [options]\n\nCommands:\n", out);
  for (const Command& command : kCommands) {
    std::fprintf(out, "  %-12.*s %s\n", static_cast<int>(command.name.size()), command.name.data(),
                 command.help);
  }
  std::fputs("\ncy-llm COMMAND --help shows the options of each.\n", out);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  for (const Command& command : kCommands) {
    if (command.name == name) return command.run(cyllm::Args(argv + 2, argv + argc));
  }
  if (name == "help" || name == "--help" || name == "-h") {
    PrintUsage(stdout);
    return cyllm::kExitOk;
  }
  if (name == "--version") return cyllm::RunVersion({});
  if (!name.empty()) std::fprintf(stderr, "cy-llm: no such command: %s\n", argv[1]);
  PrintUsage(stderr);
  return cyllm::kExitUsage;
}
