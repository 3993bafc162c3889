// GrpcServer and RemoteService against each other and against plain gRPC clients, over real sockets.
#include <ai_service.grpc.pb.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "inference/fake_service.h"
#include "inference/grpc_server.h"
#include "inference/remote_service.h"

namespace cyllm {
namespace {

namespace pb = cy::llm;

struct FakeControl : ControlHandler {
  ControlReply Control(const std::string& command, const std::map<std::string, std::string>&) override {
    if (command == "list_models") return {{"status", "ok"}, {"models", "a,b"}};
    return {{"status", "ok"}, {"message", "pong"}};
  }
  HealthReply Health() override { return {true, {{"backend", "fake"}}}; }
};

// Blocks until `f` holds, woken by Poke; fails the test after 10 s.
class Waiter {
 public:
  void Poke() {
    MutexLock lock(mutex_);
    changed_.NotifyAll();
  }
  template <class F>
  bool Until(F f) {
    const TimePoint until = Clock::now() + std::chrono::seconds(10);
    MutexLock lock(mutex_);
    while (!f()) {
      if (Clock::now() >= until) return false;
      changed_.WaitUntil(mutex_, std::min(until, Clock::now() + Millis(50)));
    }
    return true;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
};

Snapshot Serving(std::vector<std::string> models, std::string name = {}) {
  Snapshot snapshot;
  snapshot.name = std::move(name);
  for (std::string& model : models) snapshot.models.push_back({std::move(model), "echo"});
  snapshot.ready = true;
  return snapshot;
}

struct GrpcTest : testing::Test {
  GrpcTest() { fake->SetSnapshot(Serving({"m"})); }
  ~GrpcTest() override {
    remote.reset();
    server.reset();
  }

  void StartServer(GrpcServerOptions options = {}, AttachListener listener = {}) {
    if (options.listen.empty()) options.listen = {"127.0.0.1:0"};
    options.name = "server";
    server = std::make_unique<GrpcServer>(options, pool, fake, &control, listener);
    const Status started = server->Start();
    ASSERT_TRUE(started.ok()) << started.ToString();
    if (!server->ports().empty()) address = "127.0.0.1:" + std::to_string(server->ports()[0]);
  }
  void Dial(RemoteOptions options = {}) {
    if (options.address.empty()) options.address = address;
    options.name = "client";
    remote = RemoteService::Make(options, pool);
    remote->OnChange([this] { waiter.Poke(); });
  }
  Collected Ask(InferenceService& service, const std::string& model = "m") {
    Request request;
    request.facts.model = model;
    PayloadParts parts;
    parts.messages_json = R"([{"role":"user","content":"hi"}])";
    request.payload = Payload::Of(parts);
    Context context;
    context.home = pool.At(0);
    context.request_id = "r1";
    auto stream = service.Infer(std::move(request), context);
    Collected out;
    pool.RunBlocking(Collect(*stream, out));
    return out;
  }
  std::unique_ptr<pb::AiInference::Stub> Stub() {
    return pb::AiInference::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  }

  IoPool pool{2};
  std::shared_ptr<FakeService> fake =
      std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"a", "b"}), Status::Ok()}});
  FakeControl control;
  std::unique_ptr<GrpcServer> server;
  std::shared_ptr<RemoteService> remote;
  std::string address;
  Waiter waiter;
};

TEST_F(GrpcTest, AnswersOverASession) {
  StartServer();
  Dial();
  ASSERT_TRUE(waiter.Until([&] { return remote->state() == RemoteState::kSession; }));
  EXPECT_EQ(remote->Describe(), Serving({"m"}, "server"));
  for (int i = 0; i < 20; ++i) {
    const Collected got = Ask(*remote);
    EXPECT_TRUE(got.end.ok()) << got.end.ToString();
    EXPECT_EQ(got.events, TextAnswer({"a", "b"}));
  }
  EXPECT_EQ(fake->seen()[0].context.request_id, "r1");
}

TEST_F(GrpcTest, ReportsOfPrefixCachesArrive) {
  StartServer();
  Dial();
  ASSERT_TRUE(waiter.Until([&] { return remote->state() == RemoteState::kSession; }));
  const uint64_t held[] = {1, 2}, dropped[] = {3};
  fake->prefixes.Add(held, dropped);
  uint64_t cursor = 0;
  PrefixChanges got;
  const TimePoint until = Clock::now() + std::chrono::seconds(10);
  while (got.empty() && Clock::now() < until) got = remote->PrefixesSince(cursor);
  EXPECT_EQ(got.held, (std::vector<uint64_t>{1, 2}));
  EXPECT_EQ(got.dropped, std::vector<uint64_t>{3});
  EXPECT_TRUE(remote->PrefixesSince(cursor).empty());
}

TEST_F(GrpcTest, WorksOverAUnixSocketAndTakesOverADeadOne) {
  const std::string path =
      std::filesystem::temp_directory_path() / ("cyllm-grpc-" + std::to_string(getpid()) + ".sock");
  GrpcServerOptions options;
  options.listen = {"unix:" + path};
  StartServer(options);
  RemoteOptions to;
  to.address = "unix://" + path;
  Dial(to);
  ASSERT_TRUE(waiter.Until([&] { return remote->state() == RemoteState::kSession; }));
  EXPECT_EQ(Ask(*remote).Text(), "ab");
  GrpcServer second(options, pool, fake, &control);
  EXPECT_EQ(second.Start().code, Code::kAlreadyExists);
  EXPECT_EQ(Ask(*remote).Text(), "ab");  // the refusal did not harm the owner
}

TEST_F(GrpcTest, ATakenPortIsAnError) {
  StartServer();
  GrpcServerOptions options;
  options.listen = {address};
  GrpcServer second(options, pool, fake, &control);
  EXPECT_EQ(second.Start().code, Code::kFailedPrecondition);
}

TEST_F(GrpcTest, ComesBackAfterARestart) {
  GrpcServerOptions options;
  options.listen = {"unix:" + (std::filesystem::temp_directory_path() /
                               ("cyllm-restart-" + std::to_string(getpid()) + ".sock"))
                                  .string()};
  StartServer(options);
  RemoteOptions to;
  to.address = options.listen[0];
  Dial(to);
  ASSERT_TRUE(waiter.Until([&] { return remote->Describe().ready; }));
  server.reset();
  ASSERT_TRUE(waiter.Until([&] { return !remote->Describe().ready; }));
  EXPECT_EQ(Ask(*remote).end.code, Code::kUnavailable);
  StartServer(options);
  ASSERT_TRUE(waiter.Until([&] { return remote->Describe().ready; }));
  EXPECT_EQ(Ask(*remote).Text(), "ab");
}

TEST_F(GrpcTest, AServingPeerRegistersItself) {
  std::shared_ptr<InferenceService> registered;
  Waiter attached;
  Mutex mutex;
  AttachListener listener;
  listener.on_attached = [&](const AttachedPeer& peer) {
    EXPECT_EQ(peer.name, "client");
    {
      MutexLock lock(mutex);
      registered = peer.service;
    }
    attached.Poke();
  };
  listener.on_gone = [&](const AttachedPeer& peer) {
    {
      MutexLock lock(mutex);
      EXPECT_EQ(peer.service, registered);
      EXPECT_FALSE(peer.left);
      registered.reset();
    }
    attached.Poke();
  };
  const auto get = [&] {
    MutexLock lock(mutex);
    return registered;
  };
  GrpcServerOptions options;
  options.accept_serving_peers = true;
  StartServer(options, listener);
  auto worker = std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"w"}), Status::Ok()}});
  worker->SetSnapshot(Serving({"w"}));
  RemoteOptions to;
  to.offer = worker;
  Dial(to);
  ASSERT_TRUE(attached.Until([&] { return get() != nullptr; }));
  EXPECT_EQ(get()->Describe(), Serving({"w"}, "client"));
  EXPECT_EQ(Ask(*get()).Text(), "w");
  remote.reset();
  EXPECT_TRUE(attached.Until([&] { return get() == nullptr; }));
  server.reset();  // waits for the listener's last call
}

// Its sessions end while it still drains elsewhere: it does not come back as ready.
TEST_F(GrpcTest, WhoDrainsConnectsNoMore) {
  Waiter attached;
  std::atomic<int> came = 0, left = 0;
  AttachListener listener;
  listener.on_attached = [&](const AttachedPeer&) {
    ++came;
    attached.Poke();
  };
  listener.on_gone = [&](const AttachedPeer& peer) {
    EXPECT_TRUE(peer.left);
    ++left;
    attached.Poke();
  };
  GrpcServerOptions options;
  options.accept_serving_peers = true;
  StartServer(options, listener);
  auto worker = std::make_shared<FakeService>();
  worker->SetSnapshot(Serving({"w"}));
  RemoteOptions to;
  to.offer = worker;
  to.backoff_min = Millis(1);
  Dial(to);
  ASSERT_TRUE(attached.Until([&] { return came == 1; }));
  EXPECT_TRUE(remote->Drain(Clock::now() + std::chrono::seconds(10)));
  ASSERT_TRUE(attached.Until([&] { return left == 1; }));
  std::atomic<int> attempts = 0;
  remote->OnChange([&] {
    attempts += remote->state() == RemoteState::kDown;
    waiter.Poke();
  });
  EXPECT_TRUE(waiter.Until([&] { return attempts >= 5; }));
  EXPECT_EQ(came, 1);
  remote.reset();
  server.reset();  // waits for the listener's last call
}

TEST_F(GrpcTest, TheInternalTokenIsAskedForEverywhereButHealth) {
  GrpcServerOptions options;
  options.internal_token = "secret";
  StartServer(options);
  auto stub = Stub();
  pb::ControlMessage ping, pong;
  ping.set_command("ping");
  const auto control = [&](const char* value) {
    grpc::ClientContext context;
    if (value) context.AddMetadata("authorization", value);
    return stub->Control(&context, ping, &pong);
  };
  EXPECT_EQ(control(nullptr).error_message(), "Missing authorization token");
  EXPECT_EQ(control("Bearer wrong!").error_message(), "Invalid internal token");
  EXPECT_EQ(control("bearer secret").error_code(), grpc::StatusCode::UNAUTHENTICATED);
  ping.set_trace_id("t");
  EXPECT_TRUE(control("Bearer secret").ok());
  EXPECT_EQ(pong.command(), "ping_response");
  EXPECT_EQ(pong.trace_id(), "t");
  {
    grpc::ClientContext context;
    pb::WorkerHealthResponse health;
    EXPECT_TRUE(stub->Health(&context, {}, &health).ok());
    EXPECT_EQ(health.metrics().at("backend"), "fake");
    EXPECT_EQ(health.snapshot().models(0).id(), "m");
  }
  {
    grpc::ClientContext context;
    auto call = stub->StreamPredict(&context);
    EXPECT_EQ(call->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  }
  RemoteOptions to;
  to.internal_token = "secret";
  Dial(to);
  ASSERT_TRUE(waiter.Until([&] { return remote->state() == RemoteState::kSession; }));
  EXPECT_EQ(Ask(*remote).Text(), "ab");
}

TEST_F(GrpcTest, OldClientsGetTheContractsMessages) {
  StartServer();
  auto stub = Stub();
  grpc::ClientContext context;
  auto call = stub->StreamPredict(&context);
  pb::StreamPredictRequest request;
  request.set_prompt("hello");
  request.mutable_metadata()->set_trace_id("t1");
  call->Write(request);
  call->WritesDone();
  std::vector<pb::StreamPredictResponse> got;
  pb::StreamPredictResponse message;
  while (call->Read(&message)) got.push_back(message);
  EXPECT_TRUE(call->Finish().ok());
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(got[0].chunk(), "a");
  EXPECT_EQ(got[1].chunk(), "b");
  EXPECT_TRUE(got[2].end_of_stream());
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(got[i].index(), i);
    EXPECT_EQ(got[i].trace_id(), "t1");
  }
  EXPECT_EQ(fake->seen()[0].request.facts.model, "default");
}

TEST_F(GrpcTest, AnEmptyRequestStreamIsRefused) {
  StartServer();
  auto stub = Stub();
  grpc::ClientContext context;
  auto call = stub->StreamPredict(&context);
  call->WritesDone();
  const grpc::Status status = call->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "Empty request stream");
}

TEST_F(GrpcTest, TrainingIsRefusedWithAReason) {
  StartServer();
  auto stub = pb::AiTraining::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  pb::ListTrainingJobsResponse reply;
  const grpc::Status status = stub->ListTrainingJobs(&context, {}, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_NE(status.error_message(), "");
  grpc::ClientContext streaming;
  auto reader = stub->StartTraining(&streaming, {});
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(GrpcTest, ACancelledCallStopsTheEngine) {
  fake = std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"a"}), Status::Ok(), true}});
  StartServer();
  auto stub = Stub();
  grpc::ClientContext context;
  auto call = stub->StreamPredict(&context);
  pb::StreamPredictRequest request;
  request.set_prompt("hello");
  call->Write(request);
  pb::StreamPredictResponse message;
  ASSERT_TRUE(call->Read(&message));
  context.TryCancel();
  EXPECT_TRUE(fake->WaitForDrop(0));
  EXPECT_EQ(call->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(GrpcTest, DeadlinesReachTheEngine) {
  fake = std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"a"}), Status::Ok(), true}});
  StartServer();
  auto stub = Stub();
  // On a busy machine the first deadlines pass before the request has come.
  for (Millis limit{200}; fake->seen().empty() && limit < Millis(20'000); limit *= 3) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + limit);
    auto call = stub->StreamPredict(&context);
    pb::StreamPredictRequest request;
    request.set_prompt("hello");
    call->Write(request);
    pb::StreamPredictResponse message;
    while (call->Read(&message)) {
    }
    EXPECT_EQ(call->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  EXPECT_TRUE(fake->WaitForDrop(0));
}

// An old peer: AiInference without sessions.
class OldWorker final : public pb::AiInference::Service {
 public:
  grpc::Status StreamPredict(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<pb::StreamPredictResponse, pb::StreamPredictRequest>* stream) override {
    pb::StreamPredictRequest request;
    stream->Read(&request);
    prompt = request.prompt();
    if (prompt == "fail") return {grpc::StatusCode::NOT_FOUND, "Model 'x' not found in registry"};
    pb::StreamPredictResponse out;
    const std::vector<std::string> chunks = {"[模型加载] 50%\n", "he", "llo"};
    uint32_t index = 0;
    for (const std::string& chunk : chunks) {
      out.set_chunk(chunk);
      out.set_index(index++);
      stream->Write(out);
    }
    out.set_chunk("");
    out.set_end_of_stream(true);
    stream->Write(out);
    return grpc::Status::OK;
  }
  grpc::Status Control(grpc::ServerContext*, const pb::ControlMessage*, pb::ControlMessage* reply) override {
    (*reply->mutable_payload())["models"] = "default,m";
    return grpc::Status::OK;
  }
  grpc::Status Health(grpc::ServerContext*, const pb::WorkerHealthRequest*,
                      pb::WorkerHealthResponse* reply) override {
    reply->set_healthy(true);
    return grpc::Status::OK;
  }
  std::string prompt;
};

TEST_F(GrpcTest, AnOldWorkerIsSpokenToInItsOwnWay) {
  OldWorker old;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&old);
  auto old_server = builder.BuildAndStart();
  RemoteOptions to;
  to.address = "127.0.0.1:" + std::to_string(port);
  Dial(to);
  ASSERT_TRUE(waiter.Until([&] { return remote->state() == RemoteState::kLegacy; }));
  const Snapshot snapshot = remote->Describe();
  EXPECT_TRUE(snapshot.ready);
  EXPECT_TRUE(snapshot.Find("m"));
  const Collected got = Ask(*remote);
  EXPECT_TRUE(got.end.ok()) << got.end.ToString();
  EXPECT_EQ(got.Text(), "hello");
  EXPECT_EQ(old.prompt, "hi");
  EXPECT_TRUE(std::holds_alternative<Progress>(got.events[0]));
  EXPECT_TRUE(std::holds_alternative<Accepted>(got.events[1]));
  EXPECT_TRUE(std::holds_alternative<Finished>(got.events.back()));
  remote.reset();
  old_server->Shutdown(std::chrono::system_clock::now());
}

TEST_F(GrpcTest, DrainingFinishesWhatRuns) {
  fake = std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"a"}), Status::Ok(), true}});
  fake->SetSnapshot(Serving({"m"}));
  StartServer();
  Dial();
  ASSERT_TRUE(waiter.Until([&] { return remote->state() == RemoteState::kSession; }));
  Request request;
  request.facts.model = "m";
  request.payload = Payload::Of({});
  Context context;
  context.home = pool.At(0);
  auto stream = remote->Infer(std::move(request), context);
  ASSERT_TRUE(fake->WaitForRequests(1));
  EXPECT_FALSE(server->Drain(Clock::now()));  // it still runs
  ASSERT_TRUE(waiter.Until([&] { return !remote->Describe().ready; }));
  fake->seen()[0].pipe->End(Status::Ok());
  Collected got;
  pool.RunBlocking(Collect(*stream, got));
  EXPECT_TRUE(got.end.ok());
  EXPECT_TRUE(server->Drain(Clock::now() + std::chrono::seconds(10)));
}

}  // namespace
}  // namespace cyllm
