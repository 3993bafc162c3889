// What every engine must withstand: the checks of `cy-llm engine-check`. Each runs in a process of its own.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "sdk/engine.h"

namespace cyllm::engine_check {

struct Subject {
  std::string library;  // its path
  std::string config;   // one that loads
  std::string model;    // the model file that it names, or empty
  std::string scratch;  // a folder for files
  cyllm_engine_entry_fn entry = nullptr;
  const cyllm_engine_api* api = nullptr;
  bool quick = false;                    // hundreds of requests in place of thousands
  std::chrono::milliseconds patience{};  // for one answer
};

// Collects what is wrong.
struct Report {
  std::function<void(const std::string&)> wrong;
  std::function<void(const std::string&)> skip;  // the check has nothing to say about this engine: why

  void operator()(const std::string& what) const { wrong(what); }
};

struct Check {
  const char* name;
  void (*run)(const Subject&, const Report&);
};

std::vector<Check> EntryChecks();       // manifest, table, versions
std::vector<Check> CreateChecks();      // creation, description, failed loads
std::vector<Check> RuleChecks();        // what holds for the events of every request
std::vector<Check> AnswerChecks();      // answers, and what is no request
std::vector<Check> CapabilityChecks();  // what capabilities promise
std::vector<Check> LifeChecks();        // cancel, credit, threads, drain
std::vector<Check> LoadChecks();        // very many requests

// All of them, in that order.
std::vector<Check> AllChecks();

}  // namespace cyllm::engine_check
