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
  EventStream Ask(const std::string& model = "m", uint32_t epoch = 0, const std::string& adapter = {}) {
    Request request;
    request.facts.model = model;
    request.facts.adapter = adapter;
    request.facts.resume.epoch = epoch;
    request.payload = Payload::Of({});
    Context context;
    context.home = pool.At(0);
    return fleet->Infer(std::move(request), context);
  }
  void Drop(EventStream stream) {  // on its home
    pool.RunBlocking([](EventStream s) -> Task<> {
      s.reset();
      co_return;
    }(std::move(stream)));
  }
  Collected Run(const std::string& model = "m") {
    auto stream = Ask(model);
    Collected out;
    pool.RunBlocking(Collect(*stream, out));
    return out;
  }
  IoPool pool{1};
  std::shared_ptr<Fleet> fleet = Fleet::Make({.max_attempts = 3, .return_patience = Millis(0)});
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

TEST_F(FleetTest, AModelWhoseWorkersAreAwayIsNotUnknown) {
  auto lost = Backend({}), removed = Backend({}, "n");
  fleet->Add("1", lost);
  fleet->Add("2", removed);
  fleet->Add("3", Backend({TextAnswer({"x"}), Status::Ok()}, "other"));
  lost->SetSnapshot({});
  fleet->Refresh(lost.get());
  fleet->Remove(removed.get());
  for (const char* model : {"m", "n"}) {
    const Status away = Run(model).end;
    EXPECT_EQ(away.reason, "no_worker") << model;
    EXPECT_TRUE(away.retryable);
  }
  EXPECT_EQ(Run("never").end.reason, "model_not_found");
  // Not for ever.
  RequestFacts facts;
  facts.model = "m";
  const auto found = [&](TimePoint now) { return FindCandidates(*fleet->table(), facts, {}, now).refusal; };
  EXPECT_EQ(found(Clock::now() + Fleet::kRemembered).reason, "model_not_found");
  lost->SetSnapshot(Serving("m"));
  fleet->Refresh(lost.get());
  EXPECT_FALSE(fleet->table()->remembered.contains("m"));
  EXPECT_TRUE(fleet->table()->remembered.contains("n"));
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

TEST_F(FleetTest, WhoFailsAgainAndAgainIsAskedWhereNobodyElseCan) {
  fleet->Add("1", Backend({}));
  fleet->Add("2", Backend({}));
  RequestFacts facts;
  facts.model = "m";
  const TimePoint now = Clock::now();
  const auto found = [&] { return FindCandidates(*fleet->table(), facts, {}, now).views; };
  const auto trip = [&](size_t row) {
    Fleet::Backend& backend = *fleet->table()->rows[row].backend;
    MutexLock lock(backend.mutex);
    backend.breaker.Trip(now);
    backend.suspect = true;
  };
  trip(0);
  ASSERT_EQ(found().size(), 1u);
  EXPECT_EQ(found()[0].index, 1u);
  facts.worker_hint = "1";
  EXPECT_EQ(found()[0].index, 1u) << "a wish is no reason to ask it";
  facts.avoid_workers = {"2"};
  EXPECT_EQ(found()[0].index, 1u) << "where the request failed once is better than where all do";
  trip(1);
  EXPECT_EQ(found().size(), 2u);
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
  facts.needs = kCapEmbed;
  EXPECT_EQ(found().refusal.code, Code::kUnimplemented);
  EXPECT_EQ(found().refusal.param, "");
  facts.needs = kCapChat;
  facts.resume = {1, {{{1}, {1, 1}}}, "d"};
  EXPECT_EQ(found().views.size(), 1u);
  facts.resume.digest = "other";
  EXPECT_EQ(found().refusal.reason, "no_worker");
}

TEST_F(FleetTest, AnAdapterIsAskedForWhereItIs) {
  Snapshot with = Serving("m"), without = Serving("m"), unable = Serving("m");
  with.models[0].adapters = {"a", "b"};
  with.models[0].capabilities = without.models[0].capabilities = kCapChat | kCapLora;
  without.models[0].adapters = {"c"};
  unable.models[0].capabilities = kCapChat;
  for (const Snapshot* snapshot : {&with, &without, &unable}) {
    auto fake = std::make_shared<FakeService>();
    fake->SetSnapshot(*snapshot);
    fleet->Add(std::to_string(fleet->table()->rows.size()), fake);
  }
  RequestFacts facts;
  facts.model = "m";
  const auto found = [&] { return FindCandidates(*fleet->table(), facts, {}, Clock::now()); };
  EXPECT_EQ(found().views.size(), 3u);
  facts.adapter = "b";
  ASSERT_EQ(found().views.size(), 1u);
  EXPECT_EQ(found().views[0].index, 0u);
  facts.adapter = "d";
  EXPECT_EQ(found().refusal.reason, "adapter_not_found");
  EXPECT_EQ(found().refusal.param, "adapter");
  EXPECT_EQ(fleet->Describe().models.at(0).adapters, (std::vector<std::string>{"a", "b", "c"}));
}

TEST_F(FleetTest, AModelStaysWhereItIs) {
  Snapshot here = Serving("m"), crowded = Serving("m");
  here.models[0].state = ModelState::kReady;
  crowded.models[0].state = ModelState::kCrowded;
  auto one = std::make_shared<FakeService>(), two = std::make_shared<FakeService>();
  one->SetSnapshot(crowded);
  two->SetSnapshot(here);
  fleet->Add("1", one);
  fleet->Add("2", two);
  RequestFacts facts;
  facts.model = "m";
  const auto found = [&] { return FindCandidates(*fleet->table(), facts, {}, Clock::now()).views; };
  ASSERT_EQ(found().size(), 1u);
  EXPECT_EQ(found()[0].index, 1u);
  EXPECT_EQ(fleet->Describe().models[0].state, ModelState::kReady);
  fleet->table()->rows[1].backend->full.Set("m", Clock::now(), kNever);
  ASSERT_EQ(found().size(), 1u);  // rather than to wait for the other one
  EXPECT_EQ(found()[0].index, 0u);
}

TEST_F(FleetTest, AWorkerOfWhichNothingIsHeardIsAskedLastAndNotInsteadOfWaiting) {
  Snapshot silent = Serving("m");
  silent.quiet = true;
  auto one = std::make_shared<FakeService>(), two = std::make_shared<FakeService>();
  one->SetSnapshot(silent);
  two->SetSnapshot(Serving("m"));
  fleet->Add("1", one);
  RequestFacts facts;
  facts.model = "m";
  facts.worker_hint = "1";
  const auto found = [&] { return FindCandidates(*fleet->table(), facts, {}, Clock::now()); };
  EXPECT_EQ(found().views.size(), 1u) << "it may be alive";
  fleet->Add("2", two);
  ASSERT_EQ(found().views.size(), 1u);
  EXPECT_EQ(found().views[0].index, 1u);
  fleet->table()->rows[1].backend->full.Set("m", Clock::now(), kNever);
  EXPECT_TRUE(found().views.empty());
  EXPECT_TRUE(found().all_full);
  one->SetSnapshot(Serving("m"));
  fleet->Refresh(one.get());
  ASSERT_EQ(found().views.size(), 1u);
  EXPECT_EQ(found().views[0].index, 0u);
}

// A worker with so many tokens of context that answers with its name, or that the prompt is too long.
std::shared_ptr<FakeService> Holding(uint32_t context, bool fits) {
  const Status too_long = InvalidArgument("too long", "messages", "context_length_exceeded");
  auto fake =
      Backend(fits ? Script{TextAnswer({std::to_string(context)}), Status::Ok()} : Script{{}, too_long});
  Snapshot snapshot = Serving("m");
  snapshot.models[0].max_model_len = context;
  fake->SetSnapshot(snapshot);
  return fake;
}

TEST_F(FleetTest, AContextThatLooksTooShortIsAskedLastAndNeverRefused) {
  fleet->Add("short", Holding(1'000, true));
  fleet->Add("long", Holding(4'000, true));
  fleet->Add("unknown", Holding(0, true));
  RequestFacts facts;
  facts.model = "m";
  const auto views = [&](uint32_t prompt, std::optional<uint32_t> max_tokens) {
    facts.prompt_tokens_estimate = prompt;
    facts.max_tokens = max_tokens;
    std::vector<uint32_t> indices;
    for (const WorkerView& view : FindCandidates(*fleet->table(), facts, {}, Clock::now()).views)
      indices.push_back(view.index);
    return indices;
  };
  using Indices = std::vector<uint32_t>;
  EXPECT_EQ(views(900, {}), (Indices{0, 1, 2}));
  EXPECT_EQ(views(900, 100), (Indices{0, 1, 2}));
  EXPECT_EQ(views(900, 101), (Indices{1, 2}));
  EXPECT_EQ(views(1'000, {}), (Indices{1, 2}));
  EXPECT_EQ(views(9'000, {}), (Indices{2}));
  facts.resume.choices = {{std::vector<int32_t>(200), {}}};  // what was said before is to be held too
  fleet->Remove(fleet->table()->rows[2].backend->service.get());
  EXPECT_EQ(views(9'000, {}), (Indices{}));  // no resuming here
  facts.resume = {};
  EXPECT_EQ(views(9'000, {}), (Indices{0, 1}));  // an estimate refuses nobody
}

TEST_F(FleetTest, WhatAContextDoesNotHoldGoesToALongerOne) {
  std::vector<std::shared_ptr<FakeService>> fakes;
  for (const auto& [context, fits] : {std::pair{1'000u, false},
                                      {1'000u, false},
                                      {2'000u, false},
                                      {500u, false},
                                      {3'000u, false},
                                      {2'500u, false},
                                      {9'000u, true}}) {
    fakes.push_back(Holding(context, fits));
    fleet->Add(std::to_string(fakes.size()), fakes.back());
  }
  const Collected got = Run();
  EXPECT_EQ(got.Text(), "9000");  // more refusals than attempts: they are no failures
  EXPECT_EQ(fakes[0]->seen().size(), 1u);
  EXPECT_TRUE(fakes[1]->seen().empty());  // no longer than the first
  EXPECT_TRUE(fakes[3]->seen().empty());
  EXPECT_TRUE(fakes[5]->seen().empty());
  fleet->Remove(fakes.back().get());
  EXPECT_EQ(Run().end.reason, "context_length_exceeded");
  EXPECT_EQ(fleet->Describe().models.at(0).max_model_len, 3'000u);
}

TEST_F(FleetTest, AFailureTellsHowFarItCame) {
  struct First : Picker {
    Decision Pick(const RequestFacts&, std::span<const WorkerView>, uint64_t) override {
      return {0, "table", 0.5f};
    }
  };
  fleet = Fleet::Make({.picker = std::make_shared<First>(), .max_attempts = 2});
  EXPECT_EQ(std::get<Tried>(Run().events.at(0)), Tried{});
  Snapshot named = Serving("m");
  for (const char* name : {"w1", "w2"}) {
    auto fake = std::make_shared<FakeService>(std::vector<Script>{{{}, kLost}});
    named.name = name;
    fake->SetSnapshot(named);
    fleet->Add(name, fake);
  }
  const Collected got = Run();
  EXPECT_EQ(got.end, kLost);
  ASSERT_EQ(got.events.size(), 1u);
  EXPECT_EQ(std::get<Tried>(got.events[0]), (Tried{"w2", {"table", 0.5f, 0, 2}}));
  // In front of it: what is behind knows more.
  auto front = Fleet::Make({.max_attempts = 1});
  front->Add("c", fleet, true);
  std::swap(front, fleet);
  EXPECT_EQ(std::get<Tried>(Run().events.at(0)).worker, "w2");
}

TEST_F(FleetTest, WhatIsToBePrefilledIsCountedUntilTheAnswerBegins) {
  struct Ten : Picker {
    Decision Pick(const RequestFacts&, std::span<const WorkerView>, uint64_t) override {
      return {0, "ten", 0, 10};
    }
  };
  fleet = Fleet::Make({.picker = std::make_shared<Ten>()});
  auto held = Backend({{Event(Accepted{})}, Status::Ok(), true});
  fleet->Add("1", held);
  const auto& prefill = fleet->table()->rows[0].backend->prefill;
  auto one = Ask(), two = Ask();
  const auto next = [](EventSource& s) -> Task<> { co_await s.Next(kNever); };
  pool.RunBlocking(next(*one));
  pool.RunBlocking(next(*two));
  EXPECT_EQ(prefill, 20u);
  held->seen()[0].pipe->Push(TextDelta{0, "a"});
  pool.RunBlocking(next(*one));
  EXPECT_EQ(prefill, 10u);
  Drop(std::move(one));
  Drop(std::move(two));
  EXPECT_EQ(prefill, 0u);
}

TEST_F(FleetTest, WhoIsLostMayBeBackSoon) {
  fleet = Fleet::Make({.return_patience = Millis(60'000)});
  auto fake = Backend({TextAnswer({"back"}), Status::Ok()});
  fleet->Add("1", fake);
  EXPECT_EQ(Run("other").end.code, Code::kNotFound);  // who is there, is not waited for
  fake->SetSnapshot({});
  fleet->Refresh(fake.get());
  std::vector<EventStream> waiting;
  for (int i = 0; i < 3; ++i) waiting.push_back(Ask());
  for (const EventStream& stream : waiting) {
    pool.RunBlocking([](EventSource& s) -> Task<> {
      EXPECT_TRUE(std::holds_alternative<Progress>((co_await s.Next(kNever)).events.at(0)));
      EXPECT_EQ((co_await s.Next(kPoll)).what, NextResult::What::kTimeout);
    }(*stream));
  }
  fake->SetSnapshot(Serving("m"));
  fleet->Refresh(fake.get());
  for (const EventStream& stream : waiting) {
    Collected got;
    pool.RunBlocking(Collect(*stream, got));
    EXPECT_EQ(got.Text(), "back");
  }
  // Not for ever, and not where it goes on purpose.
  RequestFacts facts;
  facts.model = "m";
  const auto found = [&](TimePoint now) { return FindCandidates(*fleet->table(), facts, {}, now).returning; };
  fake->SetSnapshot({});
  fleet->Refresh(fake.get());
  EXPECT_TRUE(found(Clock::now()));
  EXPECT_FALSE(found(Clock::now() + Millis(60'001)));
  fleet->table()->rows[0].backend->draining = true;
  EXPECT_FALSE(found(Clock::now()));
}

TEST_F(FleetTest, WhoHasTheModelWithoutTheAdapterIsNoReasonNotToWait) {
  fleet = Fleet::Make({.return_patience = Millis(60'000)});
  Snapshot with = Serving("m"), without = Serving("m");
  with.models[0].adapters = {"x"};
  without.models[0].adapters = {"y"};
  auto lost = Backend({}), there = Backend({});
  lost->SetSnapshot(with);
  there->SetSnapshot(without);
  fleet->Add("1", lost);
  fleet->Add("2", there);
  RequestFacts facts;
  facts.model = "m";
  facts.adapter = "x";
  const auto found = [&] { return FindCandidates(*fleet->table(), facts, {}, Clock::now()); };
  lost->SetSnapshot({});
  fleet->Refresh(lost.get());
  EXPECT_TRUE(found().views.empty());
  EXPECT_TRUE(found().returning);
  facts.adapter = "y";
  EXPECT_EQ(found().views.size(), 1u);
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
  auto first = Ask(), second = Ask();
  pool.RunBlocking([](EventSource& a, EventSource& b, Fleet::Backend& full) -> Task<> {
    co_await a.Next(kNever);
    const NextResult queued = co_await b.Next(kNever);
    EXPECT_TRUE(std::holds_alternative<Progress>(queued.events.at(0)));
    full.full.Set("m", Clock::now(), kNever);  // until somebody leaves
    EXPECT_EQ((co_await b.Next(kPoll)).what, NextResult::What::kTimeout);
    b.Wake();
    EXPECT_EQ((co_await b.Next(kNever)).what, NextResult::What::kTimeout);
  }(*first, *second, *fleet->table()->rows[0].backend));
  EXPECT_EQ(fleet->queue().waiting("m"), 1u);
  EXPECT_EQ(busy->seen().size(), 2u);
  Drop(std::move(first));
  Collected got;
  pool.RunBlocking(Collect(*second, got));
  EXPECT_EQ(got.Text(), "second");
  EXPECT_EQ(std::get<Accepted>(got.events.front()).route.attempts, 1u);  // the refusal was no attempt
  EXPECT_TRUE(fleet->queue().empty("m"));
}

TEST_F(FleetTest, WhoWaitsForOneWorkerDoesNotHoldUpThoseThatAnotherTakes) {
  const Status full = Unavailable("full", "overloaded", Millis(60'000));
  auto tuned = std::make_shared<FakeService>(std::vector<Script>{
      {TextAnswer({"first"}), Status::Ok(), true}, {{}, full}, {TextAnswer({"tuned"}), Status::Ok()}});
  auto plain = Backend({TextAnswer({"plain"}), Status::Ok()});
  Snapshot with = Serving("m"), without = Serving("m");
  with.models[0].adapters = {"x"};
  without.models[0].adapters = {"y"};
  tuned->SetSnapshot(with);
  plain->SetSnapshot(without);
  fleet->Add("1", tuned);
  fleet->Add("2", plain);
  auto first = Ask("m", 0, "x"), waits = Ask("m", 0, "x");
  pool.RunBlocking([](EventSource& a, EventSource& b, Fleet::Backend& full) -> Task<> {
    co_await a.Next(kNever);
    const NextResult queued = co_await b.Next(kNever);
    EXPECT_TRUE(std::holds_alternative<Progress>(queued.events.at(0)));
    full.full.Set("m", Clock::now(), kNever);  // until somebody leaves
    EXPECT_EQ((co_await b.Next(kPoll)).what, NextResult::What::kTimeout);
  }(*first, *waits, *fleet->table()->rows[0].backend));
  EXPECT_EQ(fleet->queue().waiting("m"), 1u);
  auto other = Ask("m", 0, "y");
  Collected got;
  pool.RunBlocking(Collect(*other, got));
  EXPECT_EQ(got.Text(), "plain");
  Drop(std::move(first));
  Collected late;
  pool.RunBlocking(Collect(*waits, late));
  EXPECT_EQ(late.Text(), "tuned");
}

TEST_F(FleetTest, WhoFailedAndWaitsAgainIsNotOvertaken) {
  fleet = Fleet::Make({.return_patience = Millis(60'000)});
  auto fake =
      std::make_shared<FakeService>(std::vector<Script>{{{}, {}, true}, {TextAnswer({"b"}), Status::Ok()}});
  fake->SetSnapshot(Serving("m"));
  fleet->Add("1", fake);
  fake->SetSnapshot({});
  fleet->Refresh(fake.get());
  const auto poll = [](EventSource& s) -> Task<> {
    EXPECT_EQ((co_await s.Next(kPoll)).what, NextResult::What::kTimeout);
  };
  const auto queued = [](EventSource& s) -> Task<> { co_await s.Next(kPoll); };
  auto first = Ask(), second = Ask();
  pool.RunBlocking(queued(*first));
  pool.RunBlocking(queued(*second));
  fake->SetSnapshot(Serving("m"));
  fleet->Refresh(fake.get());
  pool.RunBlocking(poll(*first));
  ASSERT_EQ(fake->seen().size(), 1u);
  fleet->table()->rows[0].backend->full.Set("m", Clock::now(), kNever);
  auto begun = Ask("m", 1);  // goes before all that have not begun
  pool.RunBlocking(queued(*begun));
  ASSERT_EQ(fleet->queue().waiting("m"), 3u);
  fake->seen()[0].pipe->End(kLost);
  pool.RunBlocking(poll(*first));  // it waits again, for the one that has begun
  Drop(std::move(begun));
  pool.RunBlocking(poll(*second));
  EXPECT_EQ(fake->seen().size(), 1u) << "it was overtaken";
  Drop(std::move(first));
  Collected got;
  pool.RunBlocking(Collect(*second, got));
  EXPECT_EQ(got.Text(), "b");
}

TEST_F(FleetTest, TwoNamesOfAModelAreOneLine) {
  const Status full = Unavailable("full", "overloaded", Millis(60'000));
  auto busy = std::make_shared<FakeService>(std::vector<Script>{
      {TextAnswer({"first"}), Status::Ok(), true}, {{}, full}, {TextAnswer({"x"}), Status::Ok()}});
  Snapshot snapshot = Serving("m");
  snapshot.models.push_back({.id = "default", .engine = "echo", .alias_of = "m"});
  busy->SetSnapshot(snapshot);
  fleet->Add("1", busy);
  EXPECT_EQ(fleet->table()->MeantBy("default"), "m");
  EXPECT_EQ(fleet->table()->MeantBy("m"), "m");
  auto first = Ask("m"), second = Ask("default"), third = Ask("m");
  pool.RunBlocking([](EventSource& a, EventSource& b, EventSource& c) -> Task<> {
    co_await a.Next(kNever);
    co_await b.Next(kNever);
    co_await c.Next(kNever);
  }(*first, *second, *third));
  EXPECT_EQ(fleet->queue().waiting("m"), 2u);
  EXPECT_EQ(busy->seen().size(), 2u) << "the third lines up behind the second";
  Drop(std::move(first));
  Collected got;
  pool.RunBlocking(Collect(*second, got));
  EXPECT_EQ(got.Text(), "x");
  EXPECT_EQ(busy->seen().back().request.facts.model, "default");
  Drop(std::move(third));

  Snapshot another = Serving("n");
  another.models.push_back({.id = "default", .engine = "echo", .alias_of = "n"});
  auto differs = Backend({TextAnswer({"n"}), Status::Ok()});
  differs->SetSnapshot(another);
  fleet->Add("2", differs);
  EXPECT_EQ(fleet->table()->MeantBy("default"), "default") << "they do not agree";
}

TEST_F(FleetTest, AWorkerThatIsFullForOneModelIsAskedForItsOthers) {
  const Status full = Unavailable("full", "overloaded", Millis(60'000));
  auto worker = std::make_shared<FakeService>(std::vector<Script>{
      {TextAnswer({"first"}), Status::Ok(), true}, {{}, full}, {TextAnswer({"idle"}), Status::Ok()}});
  Snapshot both = Serving("busy");
  both.models.push_back({"idle", "echo"});
  worker->SetSnapshot(both);
  fleet->Add("1", worker);
  auto first = Ask("busy"), waits = Ask("busy");
  pool.RunBlocking([](EventSource& a, EventSource& b, Fleet::Backend& backend) -> Task<> {
    co_await a.Next(kNever);
    backend.full.Set("third", Clock::now(), kNever);
    co_await b.Next(kNever);
    EXPECT_TRUE(backend.full.Has("third", Clock::now())) << "a refusal made room";
    backend.full.Set("busy", Clock::now(), kNever);  // until somebody leaves
  }(*first, *waits, *fleet->table()->rows[0].backend));
  EXPECT_EQ(Run("idle").Text(), "idle");
  EXPECT_EQ(fleet->queue().waiting("busy"), 1u);
  Drop(std::move(first));
  Drop(std::move(waits));
}

TEST_F(FleetTest, InFrontOfFleetsThatQueueOverloadedIsFinal) {
  fleet = Fleet::Make({.max_attempts = 2, .of_fleets = true, .return_patience = Millis(0)});
  const Status full = Unavailable("full", "overloaded", Millis(7'000));
  auto busy = std::make_shared<FakeService>(
      std::vector<Script>{{TextAnswer({"first"}), Status::Ok(), true}, {{}, full}});
  busy->SetSnapshot(Serving("m"));
  fleet->Add("1", busy);
  auto held = Ask();
  pool.RunBlocking([](EventSource& s) -> Task<> { co_await s.Next(kNever); }(*held));
  const Collected got = Run();
  EXPECT_EQ(got.end.reason, "overloaded");
  EXPECT_EQ(got.end.retry_after, Millis(7'000));
  EXPECT_EQ(fleet->queue().waiting(), 0u);
  EXPECT_EQ(busy->seen().size(), 1u + 1u);  // the one that runs, and the one that was refused
  auto begun = Ask("m", 1);
  pool.RunBlocking([](EventSource& s) -> Task<> {
    const NextResult queued = co_await s.Next(kNever);
    EXPECT_TRUE(std::holds_alternative<Progress>(queued.events.at(0)));
  }(*begun));
  EXPECT_EQ(fleet->queue().waiting("m"), 1u) << "what has begun waits";
  Drop(std::move(held));
  Drop(std::move(begun));
}

TEST_F(FleetTest, AFleetIsNotBlamedForItsWorkers) {
  const Status lost = Unavailable("the connection was lost", "connection_lost");
  fleet = Fleet::Make({.max_attempts = 1, .of_fleets = true, .return_patience = Millis(0)});
  auto relays = std::make_shared<FakeService>(std::vector<Script>{{{}, lost}, {{}, Status::Ok(), true}});
  relays->SetSnapshot(Serving("m"));
  fleet->Add("1", relays);
  const Fleet::Backend& backend = *fleet->table()->rows[0].backend;
  EXPECT_EQ(Run().end, lost);
  EXPECT_EQ(backend.failed, 0u);
  auto held = Ask();
  pool.RunBlocking([](EventSource& s) -> Task<> { co_await s.Next(kPoll); }(*held));
  relays->SetSnapshot({});  // now it is itself what is lost
  relays->seen().at(1).pipe->End(lost);
  Collected got;
  pool.RunBlocking(Collect(*held, got));
  EXPECT_EQ(backend.failed, 1u);
}

// The worker has not heard yet that the first one's client left.
TEST_F(FleetTest, OverloadedJustAfterSomethingEndedIsWaitedFor) {
  fleet = Fleet::Make({});
  auto slow = std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"first"}), Status::Ok(), true},
                                                                {{}, Unavailable("full", "overloaded")},
                                                                {TextAnswer({"second"}), Status::Ok()}});
  slow->SetSnapshot(Serving("m"));
  fleet->Add("1", slow);
  auto first = Ask();
  pool.RunBlocking([](EventSource& s) -> Task<> { co_await s.Next(kNever); }(*first));
  Drop(std::move(first));
  EXPECT_EQ(Run().Text(), "second");
}

TEST_F(FleetTest, OverloadedWithNothingRunningIsAnAnswer) {
  fleet->Add("1", Backend({{}, Unavailable("full", "overloaded")}));
  EXPECT_EQ(Run().end.reason, "overloaded");
}

TEST_F(FleetTest, OverloadedWithNothingRunningIsAnAnswerAlsoAfterALoss) {
  auto lost = Backend({{Event(Accepted{})}, kLost});
  auto full = Backend({{}, Unavailable("full", "overloaded")});
  fleet->Add("1", lost);
  fleet->Add("2", full);
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

struct RecordingPicker final : Picker {
  Decision Pick(const RequestFacts&, std::span<const WorkerView>, uint64_t) override { return {}; }
  void Report(uint32_t slot, const PrefixChanges& changes) override {
    for (const uint64_t hash : changes.held) held.emplace_back(slot, hash);
    for (const uint64_t hash : changes.dropped) dropped.emplace_back(slot, hash);
  }
  std::vector<std::pair<uint32_t, uint64_t>> held, dropped;
};

TEST_F(FleetTest, WhatBackendsSayOfTheirCachesGoesToThePickerOnce) {
  const auto picker = std::make_shared<RecordingPicker>();
  fleet = Fleet::Make({.picker = picker});
  auto one = Backend({{}, Status::Ok()}), two = Backend({{}, Status::Ok()});
  fleet->Add("1", one);
  one->prefixes.Add(std::vector<uint64_t>{11}, {});
  fleet->Check(Clock::now());
  EXPECT_TRUE(picker->held.empty()) << "alone, nothing is asked of it";
  fleet->Add("2", two);
  two->prefixes.Add(std::vector<uint64_t>{22}, std::vector<uint64_t>{33});
  fleet->Check(Clock::now());
  fleet->Check(Clock::now());
  const auto rows = fleet->table()->rows;
  EXPECT_EQ(picker->held, (std::vector<std::pair<uint32_t, uint64_t>>{{rows[0].backend->slot, 11},
                                                                      {rows[1].backend->slot, 22}}));
  EXPECT_EQ(picker->dropped, (std::vector<std::pair<uint32_t, uint64_t>>{{rows[1].backend->slot, 33}}));
}

TEST_F(FleetTest, WhatWasComputedIsChargedOnceForEachToken) {
  struct Ledger final : QueueOrder {
    uint64_t Turn(const RequestFacts&) override { return 0; }
    void Charge(const std::string& tenant, uint64_t tokens) override { charged[tenant] += tokens; }
    std::map<std::string, uint64_t> charged;
  };
  const auto ledger = std::make_shared<Ledger>();
  fleet = Fleet::Make({.queue = {.order = ledger}, .return_patience = Millis(0)});
  TextDelta two{0, "ab", {1, 2}, {}, {2, 2}}, one{0, "c", {}, {}, {3, 3}};
  Finished finished;
  auto broken = Backend({{}, kLost});
  auto good = Backend({{Accepted{10, 4}, two, one, finished}, Status::Ok()});
  fleet->Add("1", broken);
  fleet->Add("2", good);
  Request request;
  request.facts.model = "m";
  request.facts.tenant = "t";
  request.payload = Payload::Of({});
  Context context;
  context.home = pool.At(0);
  auto stream = fleet->Infer(std::move(request), context);
  Collected got;
  pool.RunBlocking(Collect(*stream, got));
  EXPECT_TRUE(got.end.ok());
  EXPECT_EQ(ledger->charged, (std::map<std::string, uint64_t>{{"t", 6 + 3}}));
}

TEST_F(FleetTest, WhoIsBackAfterALossIsSomebodyElseToRouting) {
  auto worker = Backend({{}, Status::Ok()});
  fleet->Add("1", worker);
  const auto slot = [&] { return fleet->table()->rows[0].backend->slot.load(); };
  const uint32_t first = slot();
  Snapshot loading = Serving("m");
  loading.ready = false;
  for (const Snapshot& there : {loading, Serving("m")}) {
    worker->SetSnapshot(there);
    fleet->Refresh(worker.get());
    EXPECT_EQ(slot(), first);
  }
  EXPECT_EQ(fleet->CountReady(), 1u);
  worker->SetSnapshot({});
  fleet->Refresh(worker.get());
  EXPECT_EQ(fleet->CountReady(), 0u);
  worker->SetSnapshot(Serving("m"));
  fleet->Refresh(worker.get());
  EXPECT_NE(slot(), first);
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
