// The checks pass what is right and name what is wrong.
#include "worker/engine_check/runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "worker/engine_check/child.h"

namespace cyllm::engine_check {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

struct Ran {
  int failed = 0;
  std::vector<Outcome> outcomes;
  std::string failures;  // a line each
};

Ran CheckAll(const Plan& plan) {
  Ran ran;
  ran.failed = RunChecks(plan, [&](const Outcome& outcome) {
    ran.outcomes.push_back(outcome);
    if (outcome.verdict == Verdict::kFail) ran.failures += ToLine(outcome) + '\n';
  });
  return ran;
}

Plan PlanOf(const std::string& library, const std::string& config = R"({"model": {"id": "m"}})") {
  Plan plan;
  plan.library = library;
  plan.config = config;
  plan.quick = true;
  return plan;
}

const std::string kEcho = CY_ENGINE_DIR "/echo/libcyllm_engine_echo.so";

TEST(EngineCheckTest, EchoPasses) {
  const Ran ran = CheckAll(PlanOf(kEcho));
  EXPECT_EQ(ran.failures, "");
  EXPECT_EQ(ran.failed, 0);
  EXPECT_EQ(ran.outcomes.size(), CheckNames().size());
}

TEST(EngineCheckTest, SlowAndSmallEchoPasses) {
  EXPECT_EQ(
      CheckAll(PlanOf(kEcho, R"({"model": {"ttft_ms": 2, "itl_ms": 1, "load_ms": 10, "max_running": 60}})"))
          .failures,
      "");
}

TEST(EngineCheckTest, TheTemplatePasses) {
  unsetenv("CYLLM_DEFECT");
  const Ran ran = CheckAll(PlanOf(CY_BROKEN_ENGINE));
  EXPECT_EQ(ran.failures, "");
  int skipped = 0;
  for (const Outcome& outcome : ran.outcomes) skipped += outcome.verdict == Verdict::kSkip;
  EXPECT_EQ(skipped, 7);  // logprobs, tools, schemas, resuming, embeddings, tokens; no model file
}

struct Defect {
  const char* name;
  const char* check;   // which must fail
  const char* reason;  // must be among its reasons
  int limit_ms = 4000;
};

void PrintTo(const Defect& defect, std::ostream* out) { *out << defect.name; }

class BrokenEngineTest : public testing::TestWithParam<Defect> {};

TEST_P(BrokenEngineTest, IsFoundOut) {
  const Defect& defect = GetParam();
#if __has_feature(thread_sanitizer)
  if (std::string_view(defect.name) == "leaks memory") GTEST_SKIP() << "its own memory hides the growth";
#endif
  setenv("CYLLM_DEFECT", defect.name, 1);
  Plan plan = PlanOf(CY_BROKEN_ENGINE);
  plan.only = {defect.check};
  plan.limit = milliseconds(defect.limit_ms);
  const Ran ran = CheckAll(plan);
  unsetenv("CYLLM_DEFECT");
  ASSERT_EQ(ran.failed, 1) << "nothing was found";
  EXPECT_EQ(ran.outcomes.back().name, defect.check);
  testing::Matcher<std::string> told = HasSubstr(defect.reason);
  // A sanitizer sees what is done to memory before the check does, and ends the process.
  if (kSanitized)
    told = testing::AnyOf(told, HasSubstr("leaks memory"), HasSubstr("ends the process with status 1"),
                          HasSubstr("ends the process with status 66"));
  EXPECT_THAT(ran.outcomes.back().reasons, testing::Contains(told));
}

INSTANTIATE_TEST_SUITE_P(
    Defects, BrokenEngineTest,
    testing::Values(
        Defect{"lacks a function", "the table is complete", "a function is missing"},
        Defect{"another name", "the manifest says the same as the table", "its name is"},
        Defect{"more than the manifest", "the manifest says the same as the table", "does not name"},
        Defect{"any version", "other ABI versions are refused", "takes a host of ABI"},
        Defect{"refuses newer hosts", "newer hosts are taken", "refuses a host"},
        Defect{"loads anything", "garbage as configuration is refused", "accepted the config"},
        Defect{"no reason", "garbage as configuration is refused", "no message"},
        Defect{"throws", "garbage as configuration is refused", "exception"},
        Defect{"leaks memory", "failed loads leak nothing", "bytes"},
        Defect{"leaks files", "failed loads leak nothing", "open files"},
        Defect{"leaks threads", "failed loads leak nothing", "threads"},
        Defect{"ignores progress", "a load can be stopped", "loaded although"},
        Defect{"bad progress", "a load can be stopped", "outside 0..1"},
        Defect{"writes past", "descriptions of any size", "wrote past"},
        Defect{"always busy", "stats return to zero", "idle engine"},
        Defect{"no end", "END comes once and last", "no END"},
        Defect{"two ends", "END comes once and last", "after END"},
        Defect{"event after end", "END comes once and last", "after END"},
        Defect{"delta before accepted", "events come in order", "a delta before ACCEPTED"},
        Defect{"accepted twice", "events come in order", "ACCEPTED twice"},
        Defect{"finished twice", "events come in order", "FINISHED twice"},
        Defect{"no finished", "events come in order", "not FINISHED"},
        Defect{"completion usage", "usage and offsets add up", "completion_tokens"},
        Defect{"prompt usage", "usage and offsets add up", "prompt_tokens"},
        Defect{"offsets", "usage and offsets add up", "text_bytes"},
        Defect{"ignores credit", "credit is obeyed", "without credit"},
        Defect{"ignores credit", "no credit, no delta", "without credit"},
        Defect{"ignores credit", "a slow reader stops only itself", "more deltas than"},
        Defect{"ignores more credit", "credit is what it runs on", "must be enough"},
        Defect{"half a code point", "texts, ids and errors are well formed", "splits a code point"},
        Defect{"two threads", "callbacks are serial", "overlap"},
        Defect{"a token too many", "chats", "more tokens than max_tokens"},
        Defect{"any n", "choices", "no choices must be refused"},
        Defect{"stops in the output", "stop strings", "a stop string is in the output"},
        Defect{"claims tools", "tools", "not called once"},
        Defect{"crashes on newer hosts", "older and newer hosts", "crashes"},
        Defect{"reads past", "older and newer hosts", "crashes"},
        Defect{"keeps pointers", "chats", "crashes"}, Defect{"hangs in submit", "chats", "hangs"},
        Defect{"ignores cancel", "cancel at once and twice", "not one END after cancel"},
        Defect{"ignores cancel", "cancel amid the answer", "not one END after cancel"},
        Defect{"does not drain", "drain refuses and waits", "must be refused"},
        Defect{"destroy forgets", "destroy ends what runs", "not one END after destroy"},
        Defect{"slow submit", "ten thousand submits", "blocked", 20'000},
        Defect{"overload is internal", "overload is a normal answer", "in place of RESOURCE_EXHAUSTED"},
        Defect{"overload is final", "overload is a normal answer", "not retryable"}));

TEST(EngineCheckTest, WhatCannotBeLoadedIsSaid) {
  EXPECT_THAT(CheckAll(PlanOf("/not/there.so")).failures, HasSubstr("the library loads: /not/there.so"));
  setenv("CYLLM_DEFECT", "crashes at entry", 1);
  EXPECT_THAT(CheckAll(PlanOf(CY_BROKEN_ENGINE)).failures, HasSubstr("the library loads: crashes"));
  unsetenv("CYLLM_DEFECT");
}

TEST(EngineCheckTest, AConfigurationThatDoesNotLoadIsAFailure) {
  Plan plan = PlanOf(kEcho, R"({"model": {"load_fails": true}})");
  plan.only = {"chats"};
  EXPECT_THAT(CheckAll(plan).failures, HasSubstr("create failed"));
}

TEST(EngineCheckTest, Lines) {
  EXPECT_EQ(ToLine({"a", Verdict::kPass, {}, {}}), "pass  a");
  EXPECT_EQ(ToLine({"a", Verdict::kSkip, {"why"}, {}}), "skip  a: why");
  EXPECT_EQ(ToLine({"a", Verdict::kFail, {"1", "2", "3", "4"}, {}}), "FAIL  a: 1; 2; 3; and 1 more");
}

}  // namespace
}  // namespace cyllm::engine_check
