#include "worker/worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "inference/fake_service.h"

namespace cyllm {
namespace {

using testing::HasSubstr;

class WorkerTest : public testing::Test {
 protected:
  std::shared_ptr<Worker> Make(const std::string& registry, bool preload = false) {
    WorkerOptions options;
    options.name = "w1";
    options.engine_dir = CY_ENGINE_DIR;
    options.registry_json = registry;
    options.default_engine = "echo";
    options.preload = preload;
    auto worker = Worker::Make(options);
    EXPECT_TRUE(worker) << worker.error().message;
    return worker ? *worker : nullptr;
  }
  EventStream Ask(Worker& worker, const std::string& model, const std::string& text = "hello world",
                  TimePoint deadline = kNever) {
    PayloadParts parts;
    parts.messages_json = R"([{"role":"user","content":")" + text + R"("}])";
    Request request{{}, Payload::Of(parts)};
    request.facts.model = model;
    Context context;
    context.home = pool_.At(0);
    context.deadline = deadline;
    return worker.Infer(std::move(request), std::move(context));
  }
  Collected Run(EventStream stream) {
    Collected out;
    pool_.RunBlocking(
        [](EventStream s, Collected& o) -> Task<> { co_await Collect(*s, o); }(std::move(stream), out));
    return out;
  }

  // Blocks until the engine has taken the request.
  void PullAccepted(EventSource& stream) {
    bool accepted = false;
    pool_.RunBlocking([](EventSource& s, bool& done) -> Task<> {
      while (!done) {
        const NextResult next = co_await s.Next(kNever);
        for (const Event& event : next.events) done |= std::holds_alternative<Accepted>(event);
        if (next.what == NextResult::What::kEnd) co_return;
      }
    }(stream, accepted));
    EXPECT_TRUE(accepted);
  }

  IoPool pool_{1};
};

TEST_F(WorkerTest, LoadsOnFirstUseWithProgress) {
  auto worker = Make(R"({"m": {"load_ms": 20}})");
  Snapshot before = worker->Describe();
  EXPECT_TRUE(before.ready);  // it can answer: by loading
  EXPECT_EQ(before.Find("m")->state, ModelState::kAvailable);
  EXPECT_EQ(before.Find("default")->alias_of, "m");
  const Collected got = Run(Ask(*worker, "default"));
  EXPECT_TRUE(got.end.ok()) << got.end.ToString();
  EXPECT_EQ(got.Text(), "hello world");
  ASSERT_TRUE(std::holds_alternative<Progress>(got.events.front()));
  EXPECT_EQ(std::get<Progress>(got.events.front()).phase, Progress::Phase::kLoading);
  EXPECT_EQ(worker->Describe().Find("m")->state, ModelState::kReady);
  EXPECT_TRUE(worker->Describe().Find("m")->digest.starts_with("echo-"));
  const Collected again = Run(Ask(*worker, "m"));
  EXPECT_TRUE(std::holds_alternative<Accepted>(again.events.front()));
}

TEST_F(WorkerTest, ManyWaitForOneLoad) {
  auto worker = Make(R"({"m": {"load_ms": 20}})");
  std::vector<EventStream> streams;
  for (int i = 0; i < 20; ++i) streams.push_back(Ask(*worker, "m"));
  streams.resize(15);  // five give up
  for (EventStream& stream : streams) EXPECT_EQ(Run(std::move(stream)).Text(), "hello world");
  EXPECT_EQ(worker->Describe().load.waiting, 0u);
}

TEST_F(WorkerTest, PreloadMakesReadyLate) {
  auto worker = Make(R"({"m": {"load_ms": 2000}})", true);
  const Snapshot loading = worker->Describe();
  EXPECT_FALSE(loading.ready);
  EXPECT_THAT(loading.not_ready_reasons, testing::Contains(HasSubstr("loading")));
  EXPECT_TRUE(Run(Ask(*worker, "m")).end.ok());
  EXPECT_TRUE(worker->Describe().ready);
}

TEST_F(WorkerTest, UnknownModel) {
  auto worker = Make(R"({"m": {}})");
  const Collected got = Run(Ask(*worker, "other"));
  EXPECT_EQ(got.end.code, Code::kNotFound);
  EXPECT_EQ(got.end.reason, "model_not_found");
  EXPECT_EQ(got.end.message, "Model 'other' not found in registry");
}

TEST_F(WorkerTest, FailedLoadIsSaidWithoutItsInnards) {
  auto worker = Make(R"({"m": {"load_fails": true}})");
  const Collected got = Run(Ask(*worker, "m"));
  EXPECT_EQ(got.end.code, Code::kUnavailable);
  EXPECT_EQ(got.end.reason, "load_failed");
  EXPECT_EQ(worker->Describe().Find("m")->state, ModelState::kFailed);
  EXPECT_FALSE(worker->Describe().ready);
  EXPECT_EQ(Run(Ask(*worker, "m")).end.reason, "load_failed");  // at once: not tried again so soon
}

TEST_F(WorkerTest, UnloadedModelComesBack) {
  auto worker = Make(R"({"m": {}})");
  ASSERT_TRUE(Run(Ask(*worker, "m")).end.ok());
  EXPECT_EQ(worker->Control("unload_model", {{"model_id", "m"}}).at("status"), "ok");
  EXPECT_EQ(worker->Describe().Find("m")->state, ModelState::kAvailable);
  EXPECT_EQ(Run(Ask(*worker, "m")).Text(), "hello world");
}

TEST_F(WorkerTest, UnloadLetsRunningRequestsEnd) {
  auto worker = Make(R"({"m": {"itl_ms": 5}})");
  ASSERT_TRUE(Run(Ask(*worker, "m", "x")).end.ok());
  EventStream stream = Ask(*worker, "m", "a b c d e f");
  worker->Control("unload_model", {{"model_id", "m"}});
  EXPECT_EQ(Run(std::move(stream)).Text(), "a b c d e f");
}

TEST_F(WorkerTest, ControlOfTheContract) {
  auto worker = Make(R"({"m": {}, "n": {}})");
  EXPECT_EQ(worker->Control("ping", {}), (ControlReply{{"status", "ok"}, {"message", "pong"}}));
  EXPECT_EQ(worker->Control("list_models", {}).at("models"), "default,m,n");
  EXPECT_EQ(worker->Control("unload_model", {}).at("message"), "Missing model_id");
  EXPECT_EQ(worker->Control("dance", {}).at("message"), "Unknown command: dance");
  const HealthReply health = worker->Health();
  EXPECT_TRUE(health.healthy);
  EXPECT_EQ(health.metrics.at("backend"), "echo");
  EXPECT_EQ(health.metrics.at("requests_inflight"), "0");
}

TEST_F(WorkerTest, DrainWaitsAndRefuses) {
  auto worker = Make(R"({"m": {"itl_ms": 5}})");
  ASSERT_TRUE(Run(Ask(*worker, "m", "x")).end.ok());
  EventStream stream = Ask(*worker, "m", "a b c d");
  Collected got;
  std::thread reader([&] { got = Run(std::move(stream)); });
  worker->Drain(kNever);
  reader.join();
  EXPECT_EQ(got.Text(), "a b c d");
  EXPECT_EQ(Run(Ask(*worker, "m")).end.reason, "draining");
  EXPECT_EQ(worker->Describe().not_ready_reasons, std::vector<std::string>{"draining"});
}

TEST_F(WorkerTest, DrainEndsALoad) {
  auto worker = Make(R"({"m": {"load_ms": 60000}})");
  EventStream stream = Ask(*worker, "m");
  worker->Drain(Clock::now());
  EXPECT_EQ(Run(std::move(stream)).end.reason, "draining");
}

TEST_F(WorkerTest, DrainEndsAnUnloadThatWaits) {
  auto worker = Make(R"({"m": {"hang_after": 0}})");
  EventStream stream = Ask(*worker, "m");
  PullAccepted(*stream);
  worker->Control("unload_model", {{"model_id", "m"}});
  worker->Drain(Clock::now());
  EXPECT_EQ(Run(std::move(stream)).end.reason, "draining");
}

TEST_F(WorkerTest, DeadlineEndsWhatHangs) {
  auto worker = Make(R"({"m": {"hang_after": 1}})");
  EventStream stream = Ask(*worker, "m", "a b c", Clock::now() + Millis(30));
  EXPECT_EQ(Run(std::move(stream)).end.code, Code::kDeadlineExceeded);
  while (worker->Describe().load.running > 0) std::this_thread::yield();  // it was cancelled
}

TEST_F(WorkerTest, DeadlineEndsTheWaitForALoad) {
  auto worker = Make(R"({"m": {"load_ms": 60000}})");
  EventStream stream = Ask(*worker, "m", "a", Clock::now() + Millis(30));
  const Collected got = Run(std::move(stream));
  EXPECT_EQ(got.end.code, Code::kDeadlineExceeded);
  ASSERT_FALSE(got.events.empty());
  EXPECT_TRUE(std::holds_alternative<Progress>(got.events.back()));
  worker->Drain(Clock::now());
}

TEST_F(WorkerTest, WrongRegistryRefusesToStart) {
  WorkerOptions options;
  options.engine_dir = CY_ENGINE_DIR;
  options.registry_json = R"({"m": {"engine": "echo", "itl": 3}})";
  const auto worker = Worker::Make(options);
  ASSERT_FALSE(worker);
  EXPECT_THAT(worker.error().message, HasSubstr("itl_ms"));
}

}  // namespace
}  // namespace cyllm
