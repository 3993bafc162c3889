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
  std::shared_ptr<Fleet> fleet = Fleet::Make({.max_attempts = 3});
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
  EXPECT_TRUE(fleet->table()->rows.empty());
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

TEST_F(FleetTest, AvoidedWorkersAreAskedWhereNobodyElseCan) {
  auto one = Backend({TextAnswer({"1"}), Status::Ok()});
  auto two = Backend({TextAnswer({"2"}), Status::Ok()});
  fleet->Add("1", one);
  fleet->Add("2", two);
  RequestFacts facts;
  facts.model = "m";
  const auto found = [&] { return FindCandidates(*fleet->table(), facts, {}, Clock::now()).views; };
  EXPECT_EQ(found().size(), 2u);
  facts.avoid_workers = {"1"};
  ASSERT_EQ(found().size(), 1u);
  EXPECT_EQ(found()[0].index, 1u);
  facts.avoid_workers = {"1", "2"};
  EXPECT_EQ(found().size(), 2u);
  facts.avoid_workers = {};
  facts.worker_hint = "2";
  ASSERT_EQ(found().size(), 1u);
  EXPECT_EQ(found()[0].index, 1u);
}

TEST_F(FleetTest, OnlyWhoCanDoItIsACandidate) {
  Snapshot snapshot = Serving("m");
  snapshot.models[0].capabilities = kCapChat | kCapResume;
  snapshot.models[0].digest = "d";
  auto fake = std::make_shared<FakeService>();
  fake->SetSnapshot(snapshot);
  fleet->Add("1", fake);
  RequestFacts facts;
  facts.model = "m";
  const auto found = [&] { return FindCandidates(*fleet->table(), facts, {}, Clock::now()); };
  EXPECT_EQ(found().views.size(), 1u);
  facts.needs = kCapChat | kCapTools;
  EXPECT_EQ(found().refusal.code, Code::kUnimplemented);
  EXPECT_EQ(found().refusal.param, "tools");
  facts.needs = kCapChat;
  facts.resume = {1, {{{1}, {1, 1}}}, "d"};
  EXPECT_EQ(found().views.size(), 1u);
  facts.resume.digest = "other";
  EXPECT_EQ(found().refusal.reason, "no_worker");
}

TEST_F(FleetTest, TheRouteIsTold) {
  fleet->Add("1", Backend({{}, kLost}));
  fleet->Add("2", Backend({TextAnswer({"a"}), Status::Ok()}));
  const Collected got = Run();
  const auto& accepted = std::get<Accepted>(got.events.front());
  EXPECT_EQ(accepted.route.policy, "first");
  EXPECT_EQ(accepted.route.attempts, 2u);
}

TEST_F(FleetTest, WhatFailsAgainAndAgainIsLeftOutUntilAProbeSucceeds) {
  // Fails six times, then is well.
  std::vector<Script> scripts(6, Script{{}, kLost});
  scripts.push_back({TextAnswer({"well"}), Status::Ok()});
  auto flapping = std::make_shared<FakeService>(scripts);
  flapping->SetSnapshot(Serving("m"));
  auto good = Backend({TextAnswer({"good"}), Status::Ok()});
  BreakerOptions breaker;
  breaker.open_min = breaker.open_max = Millis(1);
  fleet = Fleet::Make({.max_attempts = 3, .breaker = breaker});
  fleet->Add("1", flapping);
  fleet->Add("2", good);
  const TimePoint until = Clock::now() + std::chrono::seconds(10);
  std::string text;
  while (text != "well" && Clock::now() < until) {
    const Collected got = Run();
    ASSERT_TRUE(got.end.ok()) << got.end.ToString();  // one flapping worker costs no request
    text = got.Text();
  }
  EXPECT_EQ(text, "well");
  EXPECT_EQ(Run().Text(), "well");
}

TEST_F(FleetTest, ClientErrorsAndClientsThatLeaveOpenNoBreaker) {
  auto picky = Backend({{}, InvalidArgument("no")});
  fleet->Add("1", picky);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(Run().end.code, Code::kInvalidArgument);
  const auto& backend = *fleet->table()->rows[0].backend;
  EXPECT_FALSE(backend.suspect);
  EXPECT_EQ(backend.inflight, 0u);
}

TEST_F(FleetTest, OverloadedGoesElsewhereOrWaitsUntilSomethingEnds) {
  const Status full = Unavailable("full", "overloaded", Millis(60'000));
  auto busy = std::make_shared<FakeService>(std::vector<Script>{
      {TextAnswer({"first"}), Status::Ok(), true}, {{}, full}, {TextAnswer({"second"}), Status::Ok()}});
  busy->SetSnapshot(Serving("m"));
  fleet->Add("1", busy);
  Request request;
  request.facts.model = "m";
  request.payload = Payload::Of({});
  Context context;
  context.home = pool.At(0);
  auto first = fleet->Infer(request, context), second = fleet->Infer(request, context);
  pool.RunBlocking([](EventSource& a, EventSource& b) -> Task<> {
    co_await a.Next(kNever);
    const NextResult queued = co_await b.Next(kNever);
    EXPECT_TRUE(std::holds_alternative<Progress>(queued.events.at(0)));
    EXPECT_EQ((co_await b.Next(kPoll)).what, NextResult::What::kTimeout);
    b.Wake();
    EXPECT_EQ((co_await b.Next(kNever)).what, NextResult::What::kTimeout);
  }(*first, *second));
  EXPECT_EQ(fleet->queue().waiting("m"), 1u);
  EXPECT_EQ(busy->seen().size(), 2u);
  pool.RunBlocking([](EventStream a) -> Task<> {  // leaves, on its home
    a.reset();
    co_return;
  }(std::move(first)));
  Collected got;
  pool.RunBlocking(Collect(*second, got));
  EXPECT_EQ(got.Text(), "second");
  EXPECT_EQ(std::get<Accepted>(got.events.front()).route.attempts, 1u);  // the refusal was no attempt
  EXPECT_TRUE(fleet->queue().empty("m"));
}

TEST_F(FleetTest, OverloadedWithNothingRunningIsAnAnswer) {
  fleet->Add("1", Backend({{}, Unavailable("full", "overloaded")}));
  EXPECT_EQ(Run().end.reason, "overloaded");
}

TEST_F(FleetTest, StreamsOfOneBackendCanBeEndedFromElsewhere) {
  auto held = Backend({TextAnswer({"a"}), Status::Ok(), true});
  fleet->Add("1", held);
  Request request;
  request.facts.model = "m";
  request.facts.choices = 2;  // one is still to come
  request.payload = Payload::Of({});
  Context context;
  context.home = pool.At(0);
  auto stream = fleet->Infer(std::move(request), context);
  pool.RunBlocking([](EventSource& s) -> Task<> { co_await s.Next(kNever); }(*stream));
  const auto backend = fleet->table()->rows[0].backend;
  EXPECT_EQ(backend->streams.size(), 1u);
  backend->streams.EndAll(Unavailable("moving", "draining"));
  Collected got;
  pool.RunBlocking(Collect(*stream, got));
  EXPECT_EQ(got.end.reason, "draining");
  EXPECT_TRUE(held->WaitForDrop(0));
}

TEST_F(FleetTest, AnEngineThatStandsStillLosesItsStreams) {
  fleet = Fleet::Make({.engine_stall = Millis(1'000)});
  auto held = Backend({TextAnswer({"a"}), Status::Ok(), true});
  fleet->Add("1", held);
  Snapshot busy = Serving("m");
  busy.load = {1, 0, 8, 500};
  held->SetSnapshot(busy);
  fleet->Refresh(held.get());
  Request request;
  request.facts.model = "m";
  request.facts.choices = 2;
  request.payload = Payload::Of({});
  Context context;
  context.home = pool.At(0);
  auto stream = fleet->Infer(std::move(request), context);
  pool.RunBlocking([](EventSource& s) -> Task<> { co_await s.Next(kNever); }(*stream));
  const TimePoint now = Clock::now();
  fleet->Check(now);
  fleet->Check(now + Millis(900));
  busy.load.steps = 501;  // it moves
  held->SetSnapshot(busy);
  fleet->Refresh(held.get());
  fleet->Check(now + Millis(1'000));
  fleet->Check(now + Millis(1'900));
  const auto backend = fleet->table()->rows[0].backend;
  EXPECT_EQ(backend->streams.size(), 1u);
  fleet->Check(now + Millis(2'001));
  Collected got;
  pool.RunBlocking(Collect(*stream, got));
  EXPECT_EQ(got.end.reason, "engine_stalled");
  EXPECT_TRUE(backend->suspect);
}

// An old peer has no session whose end would end its streams.
TEST_F(FleetTest, StreamsOfAPeerThatIsGoneAreLostUnlessTheyProgress) {
  fleet = Fleet::Make({.lost_silence = Millis(1'000)});
  auto held = Backend({TextAnswer({"a"}), Status::Ok(), true});
  fleet->Add("1", held);
  Request request;
  request.facts.model = "m";
  request.facts.choices = 2;
  request.payload = Payload::Of({});
  Context context;
  context.home = pool.At(0);
  auto stream = fleet->Infer(std::move(request), context);
  const auto next = [](EventSource& s) -> Task<> { co_await s.Next(kNever); };
  pool.RunBlocking(next(*stream));
  Snapshot gone;
  gone.not_ready_reasons = {"not connected"};
  held->SetSnapshot(gone);
  fleet->Refresh(held.get());
  const auto backend = fleet->table()->rows[0].backend;
  fleet->Check(backend->streams.last_progress() + Millis(900));
  EXPECT_EQ(backend->streams.size(), 1u);
  held->seen()[0].pipe->Push(TextDelta{0, "b"});
  pool.RunBlocking(next(*stream));
  fleet->Check(backend->streams.last_progress() + Millis(900));
  EXPECT_EQ(backend->streams.size(), 1u);
  fleet->Check(backend->streams.last_progress() + Millis(1'000));
  Collected got;
  pool.RunBlocking(Collect(*stream, got));
  EXPECT_EQ(got.end.reason, "connection_lost");
}

TEST_F(FleetTest, AChangeOfLoadLeavesTheTableAsItIs) {
  auto fake = Backend({{}, Status::Ok()});
  fleet->Add("1", fake);
  const auto before = fleet->table();
  Snapshot busy = Serving("m");
  busy.load.running = 5;
  fake->SetSnapshot(busy);
  fleet->Refresh(fake.get());
  EXPECT_EQ(fleet->table(), before);
  RequestFacts facts;
  facts.model = "m";
  EXPECT_EQ(FindCandidates(*before, facts, {}, Clock::now()).views.at(0).load, 5u);
}

}  // namespace
}  // namespace cyllm
