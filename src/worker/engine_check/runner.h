// `cy-llm engine-check`: runs all checks against one plugin.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace cyllm::engine_check {

struct Plan {
  std::string library;                       // path of the plugin
  std::string config;                        // JSON with which it must load; "": an object without anything
  std::string model;                         // the model file that `config` names, or empty
  bool quick = false;                        // hundreds of requests in place of thousands
  std::chrono::milliseconds limit{120'000};  // for each check; what takes longer hangs
  std::vector<std::string> only;             // names of checks; empty: all
};

enum class Verdict { kPass, kFail, kSkip };

struct Outcome {
  std::string name;
  Verdict verdict = Verdict::kPass;
  std::vector<std::string> reasons;
  std::chrono::milliseconds took{};
};

// Tells each check's outcome, and returns how many failed. Every check has a process of its own: what crashes
// or hangs there is a failure and no more. Call it while the process has one thread only.
int RunChecks(const Plan& plan, const std::function<void(const Outcome&)>& told);

// "pass  name", "FAIL  name: what; what", without a line's end.
std::string ToLine(const Outcome& outcome);

std::vector<std::string> CheckNames();

}  // namespace cyllm::engine_check
