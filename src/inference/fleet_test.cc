#include "inference/fleet.h"

#include <gtest/gtest.h>

#include "inference/fake_service.h"

namespace cyllm {
namespace {

Snapshot Serving(const std::string& model) {
  Snapshot snapshot;
  snapshot.models = {{model, "echo"}};
  snapshot.ready = true;
  return snapshot;
}

std::shared_ptr<FakeService> Backend(Script script, const std::string& model = "m") {
  auto fake = std::make_shared<FakeService>(std::vector<Script>{std::move(script)});
  fake->SetSnapshot(Serving(model));
  return fake;
}

const Status kLost = Unavailable("the connection was lost");

struct FleetTest : testing::Test {
  Collected Run(const std::string& model = "m") {
    Request request;
    request.facts.model = model;
    request.payload = Payload::Of({});
    Context context;
    context.home = pool.At(0);
    auto stream = fleet->Infer(std::move(request), context);
    Collected out;
    pool.RunBlocking(Collect(*stream, out));
    return out;
  }
  IoPool pool{1};
  std::shared_ptr<Fleet> fleet = Fleet::Make(PickFirst, 3);
};

TEST_F(FleetTest, WhatFailsBeforeItsFirstTokenIsTriedElsewhere) {
  auto broken = Backend({{}, kLost});
  auto accepting = Backend({{Event(Accepted{3, 0, "dying"})}, kLost});
  auto good = Backend({TextAnswer({"a", "b"}), Status::Ok()});
  fleet->Add("1", broken);
  fleet->Add("2", accepting);
  fleet->Add("3", good);
  const Collected got = Run();
  EXPECT_TRUE(got.end.ok());
  EXPECT_EQ(got.Text(), "ab");
  EXPECT_EQ(got.events.size(), 5u);  // each attempt's Accepted (Resume makes one of them), deltas, Finished
  EXPECT_EQ(broken->seen().size() + accepting->seen().size() + good->seen().size(), 3u);
}

TEST_F(FleetTest, AConnectionLostAfterTheAnswerIsNoFailure) {
  fleet->Add("1", Backend({TextAnswer({"a"}), kLost}));
  const Collected got = Run();
  EXPECT_TRUE(got.end.ok()) << got.end.ToString();
  EXPECT_EQ(got.Text(), "a");
}

TEST_F(FleetTest, AfterTheFirstTokenAFailureIsAFailure) {
  auto dying = Backend({{Event(Accepted{}), Event(TextDelta{0, "a"})}, kLost});
  auto good = Backend({TextAnswer({"x"}), Status::Ok()});
  fleet->Add("1", dying);
  fleet->Add("2", good);
  const Collected got = Run();
  EXPECT_EQ(got.end, kLost);
  EXPECT_EQ(got.Text(), "a");
  EXPECT_TRUE(good->seen().empty());
}

TEST_F(FleetTest, ClientErrorsAreNotRetried) {
  auto picky = Backend({{}, InvalidArgument("no", "temperature")});
  auto good = Backend({TextAnswer({"x"}), Status::Ok()});
  fleet->Add("1", picky);
  fleet->Add("2", good);
  EXPECT_EQ(Run().end.code, Code::kInvalidArgument);
  EXPECT_TRUE(good->seen().empty());
}

TEST_F(FleetTest, AttemptsAreBounded) {
  std::vector<std::shared_ptr<FakeService>> fakes;
  for (int i = 0; i < 5; ++i) {
    fakes.push_back(Backend({{}, kLost}));
    fleet->Add(std::to_string(i), fakes.back());
  }
  EXPECT_EQ(Run().end, kLost);
  size_t asked = 0;
  for (const auto& fake : fakes) asked += fake->seen().size();
  EXPECT_EQ(asked, 3u);
}

TEST_F(FleetTest, SaysWhyNobodyCan) {
  EXPECT_EQ(Run().end.code, Code::kUnavailable);
  auto fake = Backend({TextAnswer({"x"}), Status::Ok()}, "other");
  fleet->Add("1", fake);
  const Status unknown = Run().end;
  EXPECT_EQ(unknown.code, Code::kNotFound);
  EXPECT_EQ(unknown.reason, "model_not_found");
  fake->SetSnapshot({});
  fleet->Refresh(fake.get());
  EXPECT_EQ(Run("other").end.code, Code::kUnavailable);
  fleet->Remove(fake.get());
  EXPECT_TRUE(fleet->backends()->empty());
}

TEST_F(FleetTest, DescribesTheWholeFleet) {
  auto one = Backend({{}, Status::Ok()}, "b");
  auto two = Backend({{}, Status::Ok()}, "a");
  Snapshot down;
  down.not_ready_reasons = {"draining"};
  auto three = Backend({{}, Status::Ok()});
  three->SetSnapshot(down);
  fleet->Add("three", three);
  EXPECT_EQ(fleet->Describe().not_ready_reasons, std::vector<std::string>{"draining"});
  fleet->Add("one", one);
  fleet->Add("two", two, /*live=*/true);
  const Snapshot snapshot = fleet->Describe();
  EXPECT_TRUE(snapshot.ready);
  ASSERT_EQ(snapshot.models.size(), 2u);
  EXPECT_EQ(snapshot.models[0].id, "a");
  EXPECT_EQ(snapshot.models[1].id, "b");
}

TEST_F(FleetTest, DroppingTheStreamReachesTheBackend) {
  auto held = Backend({TextAnswer({"a"}), Status::Ok(), true});
  fleet->Add("1", held);
  Request request;
  request.facts.model = "m";
  request.payload = Payload::Of({});
  Context context;
  context.home = pool.At(0);
  auto stream = fleet->Infer(std::move(request), context);
  pool.RunBlocking([](EventSource& s) -> Task<> { co_await s.Next(kNever); }(*stream));
  stream.reset();
  EXPECT_TRUE(held->WaitForDrop(0));
}

}  // namespace
}  // namespace cyllm
