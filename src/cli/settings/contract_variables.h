// Every environment variable of the contract (the Python prototype's), and what becomes of it here.
#pragma once

#include <span>
#include <string_view>

#include "base/config.h"

namespace cyllm {

enum class Verdict : uint8_t {
  kHonoured,   // a setting's variable, with the contract's meaning
  kMapped,     // a setting's variable, with a meaning adapted to this program
  kElsewhere,  // read by something else than the binary: the compose file, a library
  kIgnored,    // has no effect; where it is likely to be set, a warning says so
  kRefused,    // set, it stops the start: it promises what this release cannot keep
};

struct ContractVariable {
  std::string_view name;
  Verdict verdict;
  std::string_view note;  // what it does here, or why it does nothing
};

std::span<const ContractVariable> ContractVariables();
std::string_view VerdictWord(Verdict verdict);

// The table of docs/configuration.md.
std::string ContractMarkdown();

// What the worker's settings (worker, serve) do with names of the contract that they do not declare: warnings
// and refusals, and the flags of the prototype's worker.
void DeclareUnusedWorkerNames(Settings& settings);

}  // namespace cyllm
