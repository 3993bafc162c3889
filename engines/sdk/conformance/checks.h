// What every engine must withstand.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sdk/engine.h"

namespace cyllm::conformance {

struct Subject {
  const cyllm_engine_api* api = nullptr;
  std::string config;  // one that loads
};

// Collects what is wrong.
using Report = std::function<void(const std::string&)>;

struct Check {
  const char* name;
  void (*run)(const Subject&, const Report&);
};

// Creation and description; answers; what capabilities promise; cancel, credit and threads.
std::vector<Check> CreateChecks();
std::vector<Check> AnswerChecks();
std::vector<Check> CapabilityChecks();
std::vector<Check> LifeChecks();

}  // namespace cyllm::conformance
