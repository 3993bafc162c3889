#include "coordinator/routing/pick.h"

#include <gtest/gtest.h>

#include <set>

namespace cyllm {
namespace {

Snapshot With(std::vector<std::string> models, bool ready = true) {
  Snapshot snapshot;
  for (std::string& model : models) snapshot.models.push_back({std::move(model), "echo"});
  snapshot.ready = ready;
  return snapshot;
}

TEST(PickRoundRobin, TakesTurnsOverThoseThatSuit) {
  const Snapshot has = With({"m"}), other = With({"x"}), down = With({"m"}, false), silent = With({});
  const std::string names[] = {"a", "b", "c", "d", "e"};
  const std::vector<BackendView> views = {{names[0], has},
                                          {names[1], other},
                                          {names[2], down},
                                          {names[3], silent},
                                          {names[4], has, /*tried=*/true}};
  RequestFacts facts;
  facts.model = "m";
  std::set<int> chosen;
  for (uint64_t turn = 0; turn < 8; ++turn) chosen.insert(PickRoundRobin(facts, views, turn).index);
  EXPECT_EQ(chosen, (std::set<int>{0, 3}));
  facts.avoid_workers = {"a"};
  for (uint64_t turn = 0; turn < 4; ++turn) EXPECT_EQ(PickRoundRobin(facts, views, turn).index, 3);
  facts.avoid_workers = {"a", "d"};  // better than nobody
  EXPECT_GE(PickRoundRobin(facts, views, 0).index, 0);
  facts.model = "x";
  facts.avoid_workers = {};
  const std::vector<BackendView> spent = {{names[1], other, /*tried=*/true}};
  const Decision nobody = PickRoundRobin(facts, spent, 0);
  EXPECT_EQ(nobody.index, -1);
  EXPECT_EQ(nobody.refusal.code, Code::kUnavailable);
  EXPECT_TRUE(nobody.refusal.retryable);
}

TEST(PickRoundRobin, AModelThatFailedToLoadIsNotChosen) {
  Snapshot failed = With({"m"});
  failed.models[0].state = ModelState::kFailed;
  const std::string name = "a";
  const std::vector<BackendView> views = {{name, failed}};
  RequestFacts facts;
  facts.model = "m";
  EXPECT_EQ(PickRoundRobin(facts, views, 0).index, -1);
}

}  // namespace
}  // namespace cyllm
