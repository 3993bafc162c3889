#include "inference/session.h"

#include <gtest/gtest.h>

#include <future>

#include "inference/fake_service.h"

namespace cyllm {
namespace {

using cy::llm::SessionMessage;

// Two sessions joined by a queue in each direction, pumped on one thread; what crosses is serialized.
class Pair {
 public:
  Pair(std::shared_ptr<InferenceService> left, std::shared_ptr<InferenceService> right,
       uint32_t credit = 256) {
    left_.session = Session::Make(Options("left", std::move(left), credit), pool_, scope_);
    right_.session = Session::Make(Options("right", std::move(right), credit), pool_, scope_);
    left_.peer = &right_;
    right_.peer = &left_;
    left_.executor = right_.executor = pool_.At(1);
    left_.session->Start({std::shared_ptr<void>(), &left_});  // owned by the Pair
    right_.session->Start({std::shared_ptr<void>(), &right_});
    Settle();
  }
  ~Pair() {
    Close();
    scope_.Join();
    Settle();  // what was posted refers to this
  }

  void Close() {
    left_.session->OnClosed(Unavailable("test"));
    right_.session->OnClosed(Unavailable("test"));
  }
  // Returns when everything queued on the pump, and by those that serve on the other thread, has crossed.
  void Settle() {
    for (int i = 0; i < 20; ++i) {
      for (const size_t thread : {0, 1}) {
        std::promise<void> done;
        Post(pool_.At(thread), [&] { done.set_value(); });
        done.get_future().wait();
      }
    }
  }
  Session& left() { return *left_.session; }
  Session& right() { return *right_.session; }
  IoPool& pool() { return pool_; }
  int messages_to_right() const { return left_.sent; }
  int messages_to_left() const { return right_.sent; }

  EventStream Ask(size_t payload_bytes = 10) {
    Request request;
    request.facts.model = "m";
    PayloadParts parts;
    parts.prompt = std::string(payload_bytes, 'x');
    request.payload = Payload::Of(std::move(parts));
    Context context;
    context.home = pool_.At(0);
    return left().Infer(std::move(request), context);
  }
  Collected Run(EventSource& stream) {
    Collected out;
    pool_.RunBlocking(Collect(stream, out));
    return out;
  }

 private:
  struct Side : SessionTransport {
    std::shared_ptr<Session> session;
    Side* peer = nullptr;
    Executor executor;
    std::atomic<int> sent{0};
    void Kick() override {
      Post(executor, [this] {
        SessionMessage message;
        while (session->TakeMessage(&message)) {
          ++sent;
          SessionMessage copy;
          copy.ParseFromString(message.SerializeAsString());
          peer->session->OnMessage(copy);
        }
      });
    }
    void Abort(const Status& why) override {
      Post(executor, [this, why] {
        session->OnClosed(why);
        peer->session->OnClosed(why);
      });
    }
  };

  static SessionOptions Options(std::string name, std::shared_ptr<InferenceService> serves, uint32_t credit) {
    SessionOptions options;
    options.name = std::move(name);
    options.serves = std::move(serves);
    options.credit = credit;
    options.heartbeat = Millis(3'600'000);  // none in tests
    options.silence_limit = Millis(7'200'000);
    options.max_payload_bytes = 1'000'000;
    return options;
  }

  // Outlives the tests' services, whose pipes live on it.
  static IoPool& Pool() {
    static auto* const pool = new IoPool(2);
    return *pool;
  }

  IoPool& pool_ = Pool();
  Scope scope_;
  Side left_, right_;
};

TEST(Session, CarriesARequestAndItsAnswer) {
  auto fake = std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"a", "b"}), Status::Ok()}});
  Snapshot snapshot;
  snapshot.models = {{"m", "echo"}};
  snapshot.ready = true;
  fake->SetSnapshot(snapshot);
  Pair pair(nullptr, fake);
  EXPECT_TRUE(pair.left().ready());
  EXPECT_EQ(pair.left().peer_name(), "right");
  EXPECT_TRUE(pair.left().peer_serves());
  snapshot.name = "right";
  EXPECT_EQ(pair.left().peer_snapshot(), snapshot);
  auto stream = pair.Ask(200'000);  // several pieces
  const Collected got = pair.Run(*stream);
  EXPECT_TRUE(got.end.ok());
  EXPECT_EQ(got.events, TextAnswer({"a", "b"}));
  const auto seen = fake->seen();
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ((*seen[0].request.payload->parts())->prompt.size(), 200'000u);
}

TEST(Session, ErrorsCrossWhole) {
  const Status error{Code::kResourceExhausted, "full", "overloaded", "model", Millis(2000), true};
  Pair pair(nullptr, std::make_shared<FakeService>(std::vector<Script>{{{}, error}}));
  auto stream = pair.Ask();
  EXPECT_EQ(pair.Run(*stream).end, error);
}

TEST(Session, DroppingTheStreamCancelsOnTheOtherSide) {
  auto fake = std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"a"}), Status::Ok(), true}});
  Pair pair(nullptr, fake);
  auto stream = pair.Ask();
  ASSERT_TRUE(fake->WaitForRequests(1));
  stream.reset();
  EXPECT_TRUE(fake->WaitForDrop(0));
}

TEST(Session, AWholeAnswerThatIsThereIsOneMessage) {
  auto fake = std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"a", "b"}), Status::Ok()}});
  Pair pair(nullptr, fake);
  const int before = pair.messages_to_left();
  auto stream = pair.Ask();
  EXPECT_EQ(pair.Run(*stream).Text(), "ab");
  EXPECT_EQ(pair.messages_to_left(), before + 1);
}

// As an engine does after a step. Of those on the pump's own thread: it takes nothing away meanwhile.
TEST(Session, WhatManyRequestsSayAtOnceIsOneMessage) {
  auto fake = std::make_shared<FakeService>(std::vector<Script>{{{Event(Accepted{})}, Status::Ok(), true}});
  Pair pair(nullptr, fake);
  std::vector<EventStream> streams;
  for (int i = 0; i < 16; ++i) streams.push_back(pair.Ask());
  ASSERT_TRUE(fake->WaitForRequests(16));
  auto seen = fake->seen();
  std::erase_if(seen, [&](const auto& one) { return one.context.home != pair.pool().At(1); });
  ASSERT_EQ(seen.size(), 8u);
  pair.Settle();
  const int before = pair.messages_to_left();
  Signal::Together([&] {
    for (const auto& one : seen) {
      one.pipe->Push(Event(TextDelta{0, "x"}));
      one.pipe->End(Status::Ok());
    }
  });
  pair.Settle();
  EXPECT_EQ(pair.messages_to_left(), before + 1);
  EXPECT_EQ(pair.right().incoming(), 8u);
}

TEST(Session, LosingTheConnectionEndsBothSides) {
  auto fake = std::make_shared<FakeService>(std::vector<Script>{{{}, Status::Ok(), true}});
  Pair pair(nullptr, fake);
  auto stream = pair.Ask();
  ASSERT_TRUE(fake->WaitForRequests(1));
  pair.Close();
  const Collected got = pair.Run(*stream);
  EXPECT_EQ(got.end.code, Code::kUnavailable);
  EXPECT_TRUE(got.end.retryable);
  EXPECT_TRUE(fake->WaitForDrop(0));
  EXPECT_FALSE(pair.left().ready());
  auto late = pair.Ask();
  EXPECT_EQ(pair.Run(*late).end.code, Code::kUnavailable);
}

// A session whose connection writes when the test takes a message.
struct Lone {
  struct Transport : SessionTransport {
    void Kick() override {}
    void Abort(const Status&) override {}
  };
  explicit Lone(SessionOptions options) : session(Session::Make(std::move(options), pool, scope)) {}
  ~Lone() {
    session->OnClosed(Unavailable("test"));
    scope.Close();
    scope.Join();
  }
  void Start() { session->Start(std::make_shared<Transport>()); }

  IoPool pool{1};
  Scope scope;
  const std::shared_ptr<Session> session;
};

// Hello, and the begin of a request.
cy::llm::SessionMessage Submitted(uint64_t payload_size) {
  cy::llm::SessionMessage message;
  message.add_frames()->mutable_hello()->set_version(Session::kVersion);
  cy::llm::Frame* submit = message.add_frames();
  submit->set_id(1);
  submit->mutable_submit()->set_payload_size(payload_size);
  return message;
}

TEST(Session, APeerThatIsSilentIsLost) {
  struct Deaf : SessionTransport {
    void Kick() override {}
    void Abort(const Status& why) override { lost.set_value(why); }
    std::promise<Status> lost;
  };
  IoPool pool(1);
  Scope scope;
  SessionOptions options;
  options.name = "left";
  options.heartbeat = Millis(5);
  options.silence_limit = Millis(20);
  const auto session = Session::Make(options, pool, scope);
  const auto deaf = std::make_shared<Deaf>();
  session->Start(deaf);
  const Status why = deaf->lost.get_future().get();
  EXPECT_EQ(why.code, Code::kUnavailable);
  EXPECT_TRUE(why.retryable);
  session->OnClosed(why);
  scope.Close();
  scope.Join();
}

TEST(Session, APeerOfWhichNothingIsHeardIsQuietUntilItIs) {
  SessionOptions options;
  options.heartbeat = Millis(4);
  options.silence_limit = Millis(3'600'000);
  options.quiet_after = Millis(20);
  std::atomic<int> quiet{0}, heard{0};
  Lone* at = nullptr;
  options.on_peer = [&] { ++(at->session->peer_snapshot().quiet ? quiet : heard); };
  Lone lone(options);
  at = &lone;
  cy::llm::SessionMessage hello, heartbeat;
  hello.add_frames()->mutable_hello()->set_version(Session::kVersion);
  heartbeat.add_frames()->mutable_heartbeat();
  lone.Start();
  lone.session->OnMessage(hello);
  const TimePoint until = Clock::now() + std::chrono::seconds(10);
  while (quiet == 0 && Clock::now() < until) std::this_thread::yield();
  EXPECT_GT(quiet, 0);
  heard = 0;
  while (heard == 0 && Clock::now() < until) {
    lone.session->OnMessage(heartbeat);
    std::this_thread::yield();
  }
  EXPECT_GT(heard, 0);
}

TEST(Session, WhatChangesAfterHelloIsTold) {
  struct Becoming : InferenceService {  // ready by the second look
    EventStream Infer(Request, Context) override { return EndedStream(Status::Ok()); }
    Snapshot Describe() const override {
      Snapshot snapshot;
      snapshot.ready = looks++ > 0;
      return snapshot;
    }
    mutable std::atomic<int> looks{0};
  };
  SessionOptions options;
  options.serves = std::make_shared<Becoming>();
  options.heartbeat = Millis(20);
  options.silence_limit = Millis(3'600'000);
  Lone lone(options);
  lone.Start();
  bool hello_ready = true, told_ready = false;
  const TimePoint until = Clock::now() + std::chrono::seconds(5);
  while (!told_ready && Clock::now() < until) {
    cy::llm::SessionMessage sent;
    if (!lone.session->TakeMessage(&sent)) std::this_thread::yield();
    for (const cy::llm::Frame& frame : sent.frames()) {
      if (frame.has_hello()) hello_ready = frame.hello().snapshot().ready();
      if (frame.has_heartbeat()) told_ready |= frame.heartbeat().snapshot().ready();
    }
  }
  EXPECT_FALSE(hello_ready);
  EXPECT_TRUE(told_ready);
}

TEST(Session, IsIdleWhenTheLastEndIsWritten) {
  Lone lone({.serves = std::make_shared<FakeService>(), .heartbeat = std::chrono::hours(1)});
  Session& session = *lone.session;
  session.Goaway();  // before the connection is there: told after Hello
  lone.Start();
  cy::llm::SessionMessage sent;
  ASSERT_TRUE(session.TakeMessage(&sent));
  ASSERT_EQ(sent.frames_size(), 2);
  EXPECT_TRUE(sent.frames(0).has_hello());
  EXPECT_TRUE(sent.frames(1).has_goaway());

  session.OnMessage(Submitted(0));
  EXPECT_FALSE(session.idle());
  ASSERT_TRUE(session.TakeMessage(&sent));  // the refusal's end
  EXPECT_FALSE(session.idle()) << "it is not written yet";
  ASSERT_FALSE(session.TakeMessage(&sent));
  EXPECT_TRUE(session.idle());
}

TEST(Session, IsIdleWhenItIsLostInTheMiddleOfAnUpload) {
  Lone lone({.serves = std::make_shared<FakeService>(), .heartbeat = std::chrono::hours(1)});
  lone.Start();
  cy::llm::SessionMessage got = Submitted(10);
  cy::llm::Frame* body = got.add_frames();
  body->set_id(1);
  body->mutable_body()->set_data("half");
  lone.session->OnMessage(got);
  EXPECT_FALSE(lone.session->idle());
  lone.session->OnClosed(Unavailable("test"));
  EXPECT_TRUE(lone.session->idle());
}

TEST(Session, AReaderThatDoesNotPullStopsTheProducer) {
  auto fake = std::make_shared<FakeService>(std::vector<Script>{{{Event(Accepted{})}, Status::Ok(), true}});
  Pair pair(nullptr, fake, /*credit=*/4);
  auto stream = pair.Ask();
  ASSERT_TRUE(fake->WaitForRequests(1));
  auto pipe = fake->seen()[0].pipe;
  auto taken = fake->seen()[0].taken;
  for (int i = 0; i < 100; ++i) {
    pipe->Push(Event(TextDelta{0, "x"}));
    pair.Settle();
  }
  EXPECT_LT(*taken, 10u);  // credit 4, overdrawn by a batch at most
  fake->seen()[0].pipe->End(Status::Ok());
  const Collected got = pair.Run(*stream);
  EXPECT_EQ(got.Text(), std::string(100, 'x'));
  EXPECT_TRUE(got.end.ok());
}

TEST(Session, RefusesWhatIsTooLargeAndWhatNobodyServes) {
  auto fake = std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"a"}), Status::Ok()}});
  Pair pair(nullptr, fake);
  auto large = pair.Ask(2'000'000);
  EXPECT_EQ(pair.Run(*large).end.code, Code::kInvalidArgument);
  Pair silent(fake, nullptr);
  auto stream = silent.Ask();
  EXPECT_EQ(silent.Run(*stream).end.code, Code::kUnimplemented);
}

TEST(Session, AfterGoawayNewRequestsAreRefusedAndRunningOnesFinish) {
  auto fake = std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"a"}), Status::Ok(), true}});
  Pair pair(nullptr, fake);
  auto running = pair.Ask();
  ASSERT_TRUE(fake->WaitForRequests(1));
  pair.right().Goaway();
  pair.Settle();
  EXPECT_FALSE(pair.left().ready());
  auto refused = pair.Ask();
  EXPECT_EQ(pair.Run(*refused).end.code, Code::kUnavailable);
  fake->seen()[0].pipe->End(Status::Ok());
  EXPECT_TRUE(pair.Run(*running).end.ok());
  EXPECT_EQ(pair.right().incoming(), 0u);
}

TEST(Session, ManyRequestsShareOneConnection) {
  auto fake = std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"a", "b", "c"}), Status::Ok()}});
  Pair pair(nullptr, fake);
  std::vector<EventStream> streams;
  for (int i = 0; i < 200; ++i) streams.push_back(pair.Ask(1000));
  for (auto& stream : streams) EXPECT_EQ(pair.Run(*stream).Text(), "abc");
}

TEST(Session, SurvivesFramesThatMakeNoSense) {
  auto fake = std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"a"}), Status::Ok()}});
  Pair pair(nullptr, fake);
  SessionMessage message;
  message.add_frames()->set_id(99);
  message.add_frames()->mutable_body()->set_data("x");
  message.add_frames()->mutable_cancel();
  message.add_frames()->mutable_credit()->set_events(~0u);
  message.add_frames()->mutable_events()->set_end(true);
  auto* submit = message.add_frames();
  submit->set_id(7);
  submit->mutable_submit()->set_payload_size(2);
  auto* body = message.add_frames();
  body->set_id(7);
  body->mutable_body()->set_data("longer than announced");
  Post(pair.pool().At(1), [&] { pair.right().OnMessage(message); });
  pair.Settle();
  auto stream = pair.Ask();
  EXPECT_TRUE(pair.Run(*stream).end.ok());
}

}  // namespace
}  // namespace cyllm
