#include "worker/engine_check/runner.h"

#include <dlfcn.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>

#include "worker/engine_check/checks.h"
#include "worker/engine_check/child.h"
#include "worker/engine_check/host.h"

namespace cyllm::engine_check {

namespace {

constexpr const char* kLoads = "the library loads";

// A folder that is gone with this object.
class Scratch {
 public:
  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "cy-llm-check-XXXXXX").string();
    if (mkdtemp(name.data())) path_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// In the child: opens the library; false when nothing can be checked.
bool Load(Subject& subject, const Report& wrong) {
  void* library = dlopen(subject.library.c_str(), RTLD_LOCAL | RTLD_NOW);
  if (!library) return wrong(dlerror()), false;
  subject.entry = reinterpret_cast<cyllm_engine_entry_fn>(dlsym(library, "cyllm_engine_entry"));
  if (!subject.entry) return wrong("it does not export cyllm_engine_entry"), false;
  static const cyllm_host host = MakeHost(CYLLM_ENGINE_ABI_MAJOR, CYLLM_ENGINE_ABI_MINOR);
  subject.api = subject.entry(&host);
  if (!subject.api) return wrong("it refuses this program's ABI version"), false;
  return true;
}

}  // namespace

std::vector<Check> AllChecks() {
  std::vector<Check> all;
  for (const auto& checks : {EntryChecks(), CreateChecks(), RuleChecks(), AnswerChecks(), CapabilityChecks(),
                             LifeChecks(), LoadChecks()})
    all.insert(all.end(), checks.begin(), checks.end());
  return all;
}

std::vector<std::string> CheckNames() {
  std::vector<std::string> names{kLoads};
  for (const Check& check : AllChecks()) names.emplace_back(check.name);
  return names;
}

int RunChecks(const Plan& plan, const std::function<void(const Outcome&)>& told) {
  const Scratch scratch;
  Subject subject;
  subject.library = std::filesystem::absolute(plan.library).string();
  subject.config = plan.config;
  subject.model = plan.model;
  subject.scratch = scratch.path();
  subject.quick = plan.quick;
  subject.patience = plan.limit / 4;
  int failed = 0;
  const auto tell = [&](const Outcome& outcome) {
    failed += outcome.verdict == Verdict::kFail;
    told(outcome);
    return outcome.verdict != Verdict::kFail;
  };
  if (!tell(InChild(kLoads, plan.limit, [&](const Report& report) { Load(subject, report); }))) return failed;
  for (const Check& check : AllChecks()) {
    if (!plan.only.empty() && std::ranges::find(plan.only, check.name) == plan.only.end()) continue;
    tell(InChild(check.name, plan.limit, [&](const Report& report) {
      if (Load(subject, report)) check.run(subject, report);
    }));
  }
  return failed;
}

std::string ToLine(const Outcome& outcome) {
  static constexpr size_t kShown = 3;
  std::string line = outcome.verdict == Verdict::kPass   ? "pass  "
                     : outcome.verdict == Verdict::kFail ? "FAIL  "
                                                         : "skip  ";
  line += outcome.name;
  for (size_t i = 0; i < std::min(kShown, outcome.reasons.size()); ++i)
    line += (i == 0 ? ": " : "; ") + outcome.reasons[i];
  if (outcome.reasons.size() > kShown)
    line += "; and " + std::to_string(outcome.reasons.size() - kShown) + " more";
  return line;
}

}  // namespace cyllm::engine_check
