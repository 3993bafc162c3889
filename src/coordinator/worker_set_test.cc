#include "coordinator/worker_set.h"

#include <gtest/gtest.h>

#include "coordinator/admin.h"
#include "coordinator/coordinator.h"
#include "inference/fake_service.h"
#include "inference/grpc_server.h"

namespace cyllm {
namespace {

struct WorkerSetTest : testing::Test {
  WorkerSetTest() {
    Snapshot snapshot;
    snapshot.name = "process-1";
    snapshot.models = {{"m", "echo"}};
    snapshot.ready = true;
    fake->SetSnapshot(snapshot);
  }
  // Blocks until `condition`; false after 10 s.
  static bool Until(const std::function<bool()>& condition) {
    const TimePoint until = Clock::now() + std::chrono::seconds(10);
    while (!condition()) {
      if (Clock::now() >= until) return false;
      std::this_thread::yield();
    }
    return true;
  }
  IoPool pool{1};
  std::shared_ptr<FakeService> fake =
      std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"a"}), Status::Ok(), true}});
  std::shared_ptr<Coordinator> coordinator = Coordinator::Make({.name = "c"}, pool);
};

TEST_F(WorkerSetTest, FoundByIdNameAndNotOtherwise) {
  coordinator->AddWorker("one", fake);
  WorkerSet& workers = coordinator->workers();
  ASSERT_EQ(workers.List().size(), 1u);
  const WorkerStatus status = workers.List()[0];
  EXPECT_EQ(status.name, "one");
  EXPECT_EQ(status.process, "process-1");
  EXPECT_EQ(status.kind, "local");
  EXPECT_EQ(status.job, "ready");
  EXPECT_TRUE(status.healthy);
  EXPECT_TRUE(workers.Find("one"));
  EXPECT_TRUE(workers.Find(status.id));
  EXPECT_EQ(workers.Find("two").error().code, Code::kNotFound);
  EXPECT_EQ(workers.Drain("two", Millis(0)).error().code, Code::kNotFound);
}

TEST_F(WorkerSetTest, ADrainEndsWhatIsLeftAtItsDeadline) {
  coordinator->AddWorker("one", fake);
  WorkerSet& workers = coordinator->workers();
  Request request;
  request.facts.model = "m";
  request.facts.choices = 2;  // one is still to come
  request.payload = Payload::Of({});
  Context context;
  context.home = pool.At(0);
  auto stream = coordinator->Infer(request, context);
  pool.RunBlocking([](EventSource& s) -> Task<> { co_await s.Next(kNever); }(*stream));
  EXPECT_EQ(workers.Drain("one", Millis(0))->job, "draining");
  Collected got;
  pool.RunBlocking(Collect(*stream, got));
  EXPECT_EQ(got.end.reason, "draining");
  EXPECT_TRUE(got.end.retryable);  // Resume takes it from here
  EXPECT_EQ(workers.Find("one")->job, "drained");
  auto refused = coordinator->Infer(request, context);
  Collected none;
  pool.RunBlocking(Collect(*refused, none));
  EXPECT_EQ(none.end.reason, "no_worker");
  EXPECT_EQ(workers.Undrain("one")->job, "ready");
  EXPECT_TRUE(coordinator->Describe().ready);
}

TEST_F(WorkerSetTest, ARemovedOneIsForgottenWhenNothingRunsThere) {
  WorkerSet& workers = coordinator->workers();
  ASSERT_TRUE(workers.Dial("127.0.0.1:1"));
  EXPECT_EQ(workers.Dial("127.0.0.1:1").error().code, Code::kAlreadyExists);
  EXPECT_FALSE(workers.Find("127.0.0.1:1")->healthy);
  EXPECT_EQ(workers.Remove("127.0.0.1:1", Millis(0))->job, "removing");
  EXPECT_TRUE(Until([&] { return workers.List().empty(); }));
  EXPECT_TRUE(workers.Dial("127.0.0.1:1"));  // again
}

TEST_F(WorkerSetTest, WhoWasDrainedIsDrainedWhenItIsBack) {
  WorkerSet& workers = coordinator->workers();
  workers.Add("one", fake, /*local=*/false);
  ASSERT_TRUE(workers.Drain("one", Millis(0)));
  workers.Forget(fake.get());
  EXPECT_EQ(workers.Find("one")->job, "away");
  workers.Add("one", fake, /*local=*/false);
  EXPECT_EQ(workers.Find("one")->job, "drained");
  EXPECT_FALSE(coordinator->Describe().ready);
  EXPECT_EQ(workers.Undrain("one")->job, "ready");

  ASSERT_TRUE(workers.Drain("one", Millis(0)));
  workers.Forget(fake.get());
  ASSERT_TRUE(workers.Undrain("one"));
  EXPECT_TRUE(workers.List().empty());
  workers.Add("one", fake, /*local=*/false);
  EXPECT_EQ(workers.Find("one")->job, "ready");

  ASSERT_TRUE(workers.Drain("one", Millis(0)));
  workers.Forget(fake.get());
  ASSERT_TRUE(workers.Remove("one", Millis(0)));
  EXPECT_TRUE(Until([&] { return workers.List().empty(); }));
}

TEST_F(WorkerSetTest, WhoIsAwayIsForgottenInTheEndAndItsConnectionAtOnce) {
  WorkerSet& workers = coordinator->workers();
  auto leaving = std::make_shared<FakeService>();
  const std::weak_ptr<FakeService> held = leaving;
  workers.Add("one", leaving, /*local=*/false);
  ASSERT_TRUE(workers.Drain("one", Millis(0)));
  workers.Forget(leaving.get());
  leaving.reset();
  EXPECT_TRUE(held.expired());
  EXPECT_EQ(workers.Find("one")->job, "away");
  workers.Tick(Clock::now() + std::chrono::minutes(50));
  EXPECT_EQ(workers.List().size(), 1u);
  workers.Tick(Clock::now() + std::chrono::minutes(61));
  EXPECT_TRUE(workers.List().empty());
}

TEST_F(WorkerSetTest, WhoRegisteredAndIsLostMayBeBackSoon) {
  WorkerSet& workers = coordinator->workers();
  workers.Add("one", fake, /*local=*/false);
  workers.Forget(fake.get());
  EXPECT_EQ(workers.Find("one")->job, "lost");
  EXPECT_FALSE(workers.Find("one")->healthy);
  EXPECT_FALSE(coordinator->Describe().ready);
  Request request;
  request.facts.model = "m";
  request.payload = Payload::Of({});
  Context context;
  context.home = pool.At(0);
  auto waits = coordinator->Infer(request, context);
  pool.RunBlocking([](EventSource& s) -> Task<> {
    const NextResult queued = co_await s.Next(kNever);
    EXPECT_EQ(queued.what, NextResult::What::kEvents);
  }(*waits));
  auto again = std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"back"}), Status::Ok()}});
  again->SetSnapshot(fake->Describe());
  workers.Add("one", again, /*local=*/false);
  Collected got;
  pool.RunBlocking(Collect(*waits, got));
  EXPECT_EQ(got.Text(), "back");
  ASSERT_EQ(workers.List().size(), 1u);
  EXPECT_EQ(workers.Find("one")->job, "ready");
  workers.Tick(Clock::now() + std::chrono::minutes(1));
  EXPECT_EQ(workers.Find("one")->job, "ready");
}

TEST_F(WorkerSetTest, WhoRegisteredAndIsLostIsForgottenInTheEnd) {
  WorkerSet& workers = coordinator->workers();
  workers.Add("one", fake, /*local=*/false);
  workers.Forget(fake.get());
  workers.Tick(Clock::now() + std::chrono::minutes(1));
  EXPECT_TRUE(workers.List().empty());
  workers.Add("one", fake, /*local=*/false);
  workers.Forget(fake.get());
  ASSERT_TRUE(workers.Drain("one", Millis(0)));
  workers.Tick(Clock::now() + std::chrono::minutes(1));
  EXPECT_EQ(workers.Find("one")->job, "away");
  workers.Add("two", fake, /*local=*/false);
  workers.Forget(fake.get(), /*left=*/true);
  EXPECT_FALSE(workers.Find("two")) << "it said that it goes";
}

// A process with a name of its own that can be dialled, and can register itself.
struct TwoWaysTest : WorkerSetTest {
  TwoWaysTest() {
    EXPECT_TRUE(server.Start().ok());
    address = "127.0.0.1:" + std::to_string(server.ports().at(0));
    registration->SetSnapshot(fake->Describe());
  }
  bool Dial() {
    return workers.Dial(address) && Until([&] { return workers.Find(address)->healthy; });
  }
  GrpcServer server{{.listen = {"127.0.0.1:0"}, .name = "process-1"}, pool, fake, coordinator.get()};
  std::string address;
  std::shared_ptr<FakeService> registration = std::make_shared<FakeService>();
  WorkerSet& workers = coordinator->workers();
};

TEST_F(TwoWaysTest, WhoIsDialledAndRegistersItselfIsAskedOnce) {
  ASSERT_TRUE(Dial());
  workers.Add("process-1", registration, /*local=*/false);
  EXPECT_EQ(workers.Find("process-1")->job, "standby");
  EXPECT_FALSE(workers.Find("process-1")->healthy);
  EXPECT_EQ(coordinator->Health().metrics.at("workers_healthy"), "1");

  ASSERT_TRUE(workers.Drain("process-1", Millis(0)));
  EXPECT_EQ(workers.Find(address)->job, "drained");
  EXPECT_FALSE(coordinator->Describe().ready) << "both ways to it are shut";
  ASSERT_TRUE(workers.Undrain("process-1"));
  EXPECT_EQ(workers.Find(address)->job, "ready");

  ASSERT_TRUE(workers.Remove(address, Millis(0)));
  EXPECT_TRUE(Until([&] { return workers.Find("process-1")->job == "ready"; }));
  EXPECT_TRUE(coordinator->Describe().ready);
  EXPECT_TRUE(Until([] { return Gauge("coordinator_workers_healthy", "").Value() == 1; }));
}

TEST_F(TwoWaysTest, ADrainHoldsForTheWayThatIsDialledLater) {
  workers.Add("process-1", registration, /*local=*/false);
  ASSERT_TRUE(workers.Drain("process-1", Millis(0)));
  ASSERT_FALSE(coordinator->Describe().ready);
  ASSERT_TRUE(workers.Dial(address));
  ASSERT_TRUE(Until([&] {
    EXPECT_FALSE(coordinator->Describe().ready);
    return workers.Find("process-1")->job == "standby";
  }));
  EXPECT_EQ(workers.Find(address)->job, "drained");
  EXPECT_EQ(workers.Undrain(address)->job, "ready");
  EXPECT_TRUE(coordinator->Describe().ready);
  ASSERT_TRUE(workers.Remove(address, Millis(0)));
  EXPECT_TRUE(Until([&] { return workers.Find("process-1")->job == "ready"; }));
}

TEST_F(WorkerSetTest, TheAdminApiThroughControl) {
  coordinator->AddWorker("one", fake);
  const auto ask = [&](const char* method, const char* target, const char* body) {
    return coordinator->Control("admin", {{"method", method}, {"target", target}, {"body", body}});
  };
  const ControlReply list = ask("GET", "/workers", "");
  EXPECT_EQ(list.at("http"), "200");
  EXPECT_NE(list.at("body").find("\"url\":\"one\""), std::string::npos);
  EXPECT_EQ(ask("PATCH", "/workers/one", R"({"draining":true})").at("http"), "202");
  EXPECT_EQ(ask("PATCH", "/workers/on%65", R"({"draining":false})").at("http"), "202");
  const ControlReply put = ask("PUT", "/workers/one", R"({"draining":true,"deadline_s":2.5})");
  EXPECT_EQ(put.at("http"), "202");
  EXPECT_NE(put.at("body").find("\"job_status\":\"drained\""), std::string::npos);
  EXPECT_EQ(ask("GET", "/workers/nobody", "").at("http"), "404");
  EXPECT_EQ(ask("PATCH", "/workers/one", R"({"draining":true,"x":1})").at("http"), "400");
  EXPECT_EQ(ask("DELETE", "/workers/one?deadline_s=nan", "").at("http"), "400");
  EXPECT_EQ(ask("POST", "/workers", "[]").at("http"), "400");
  EXPECT_EQ(ask("PUT", "/workers", "").at("http"), "405");
  EXPECT_EQ(ask("GET", "/elsewhere", "").at("http"), "404");
}

}  // namespace
}  // namespace cyllm
