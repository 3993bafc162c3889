#include "upstream/upstream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <boost/json.hpp>
#include <future>
#include <optional>

#include "async/signal.h"
#include "upstream/test_server.h"

namespace cyllm {
namespace {

using testing::HasSubstr;
using testing::SizeIs;
using Exchange = TestServer::Exchange;

constexpr std::chrono::seconds kLong{10};

std::string Word(const std::string& text, const char* finish = nullptr) {
  return R"({"choices":[{"index":0,"delta":{"content":")" + text + R"("},"finish_reason":)" +
         (finish ? "\"" + std::string(finish) + "\"" : "null") + "}]}";
}

// Answers "a b" and keeps the connection.
bool TwoWords(Exchange& e) {
  e.BeginStream();
  e.Data(Word("a"));
  e.Data(Word(" b", "stop"));
  e.EndStream();
  return true;
}

Request Chat(const std::string& model = "smol") {
  Request request;
  request.facts.model = model;
  PayloadParts parts;
  parts.messages_json = R"([{"role":"user","content":"hi"}])";
  request.payload = Payload::Of(std::move(parts));
  return request;
}

class UpstreamTest : public testing::Test {
 protected:
  std::shared_ptr<Upstream> Make(const TestServer& server, UpstreamOptions options = {}) {
    options.name = "u";
    options.url = server.url();
    if (!options.profile) options.profile = upstream::FindProfile("vllm");
    options.probe_interval = Millis(20);
    auto made = Upstream::Make(std::move(options), pool_.At(0));
    EXPECT_TRUE(made);
    upstreams_.push_back(*made);
    return *made;
  }
  // Waits until Describe() is as wanted; fails after 20 s.
  void Await(const Upstream& upstream, const std::function<bool(const Snapshot&)>& wanted) {
    const TimePoint limit = Clock::now() + kLong;
    while (!wanted(upstream.Describe())) {
      ASSERT_LT(Clock::now(), limit) << (upstream.Describe().not_ready_reasons.empty()
                                             ? "ready"
                                             : upstream.Describe().not_ready_reasons.front());
      std::this_thread::sleep_for(Millis(1));
    }
  }
  void AwaitReady(const Upstream& upstream, bool ready = true) {
    Await(upstream, [&](const Snapshot& s) { return s.ready == ready; });
  }

  struct Answer {
    Batch events;
    Status end;
    std::string text() const {
      std::string out;
      for (const Event& event : events)
        if (const auto* delta = std::get_if<TextDelta>(&event)) out += delta->text;
      return out;
    }
  };
  // The whole answer, pulled on home; at most `pulls` times (then dropped).
  Answer Ask(InferenceService& service, Request request, int pulls = 1 << 30, TimePoint deadline = kNever) {
    Answer answer;
    pool_.RunBlocking(
        [](InferenceService& s, Request r, Executor home, int left, TimePoint d, Answer& out) -> Task<> {
          Context context;
          context.home = home;
          context.request_id = "req-1";
          context.deadline = d;
          EventStream stream = s.Infer(std::move(r), context);
          for (; left > 0; --left) {
            NextResult next = co_await stream->Next(kNever);
            if (next.what == NextResult::What::kEnd) {
              out.end = next.end;
              co_return;
            }
            for (Event& event : next.events) out.events.push_back(std::move(event));
          }
        }(service, std::move(request), pool_.At(0), pulls, deadline, answer));
    return answer;
  }

  ~UpstreamTest() override {
    for (auto& upstream : upstreams_) upstream->Close();
  }
  IoPool pool_{1};
  std::vector<std::shared_ptr<Upstream>> upstreams_;
};

TEST_F(UpstreamTest, AnAnswerComesAsEventsAndTheConnectionIsKept) {
  std::string seen;
  TestServer server([&](Exchange& e) {
    seen = e.head + e.body;
    return TwoWords(e);
  });
  UpstreamOptions options;
  options.api_key = "k1";
  const auto upstream = Make(server, options);
  AwaitReady(*upstream);
  for (int i = 0; i < 5; ++i) {
    const Answer answer = Ask(*upstream, Chat());
    ASSERT_TRUE(answer.end.ok()) << answer.end.ToString();
    EXPECT_EQ(answer.text(), "a b");
    EXPECT_EQ(std::get<Accepted>(answer.events.front()).worker, "u");
  }
  EXPECT_THAT(seen, HasSubstr("POST /v1/chat/completions HTTP/1.1\r\n"));
  EXPECT_THAT(seen, HasSubstr("Authorization: Bearer k1\r\n"));
  EXPECT_THAT(seen, HasSubstr("X-Request-Id: req-1\r\n"));
  EXPECT_THAT(seen, HasSubstr("\"model\":\"smol\""));
  EXPECT_LE(server.connections(), 2);  // one for the requests, one for probes that come in between
}

TEST_F(UpstreamTest, OverAUnixSocket) {
  char folder[] = "/tmp/cy-upstream-XXXXXX";
  ASSERT_TRUE(mkdtemp(folder));
  {
    TestServer server(TwoWords, std::string(folder) + "/s");
    const auto upstream = Make(server);
    AwaitReady(*upstream);
    EXPECT_EQ(Ask(*upstream, Chat()).text(), "a b");
  }
  rmdir(folder);
}

TEST_F(UpstreamTest, DescribesWhatTheServerTells) {
  TestServer server(TwoWords);
  server.Say("/metrics", "vllm:num_requests_running{e=\"0\"} 3\nvllm:num_requests_waiting 7\n");
  const auto upstream = Make(server);
  AwaitReady(*upstream);
  Await(*upstream, [](const Snapshot& s) { return s.load.running == 3 && s.load.waiting == 7; });
  // With a full KV cache each of them counts twice.
  server.Say("/metrics",
             "vllm:num_requests_running 3\nvllm:num_requests_waiting 7\nvllm:kv_cache_usage_perc 0.95\n");
  Await(*upstream, [](const Snapshot& s) { return s.load.running == 3 && s.load.waiting == 10; });
  const Snapshot snapshot = upstream->Describe();
  ASSERT_THAT(snapshot.models, SizeIs(2));
  EXPECT_EQ(snapshot.models[0].id, "default");
  EXPECT_EQ(snapshot.models[0].alias_of, "smol");
  EXPECT_EQ(snapshot.models[1].max_model_len, 2048u);
  EXPECT_EQ(snapshot.models[1].engine, "vllm");
  EXPECT_TRUE(snapshot.models[1].capabilities & kCapTools);
}

TEST_F(UpstreamTest, GoesOnWithAnAnswerOfAnother) {
  std::vector<std::string> asked;
  TestServer server([&](Exchange& e) {
    asked.push_back(e.path + " " + e.body);
    if (e.path == "/detokenize") e.Respond(200, R"({"prompt":"a b"})");
    if (e.path == "/tokenize") e.Respond(200, R"({"tokens":[1,2]})");
    if (e.path != "/v1/completions") return true;
    e.BeginStream();
    e.Data(R"({"choices":[{"index":0,"text":" c","token_ids":[8],"finish_reason":"stop"}]})");
    e.EndStream();
    return true;
  });
  server.Say("/v1/models", R"({"data":[{"id":"smol","owned_by":"vllm","root":"/m","max_model_len":2048}]})");
  const auto upstream = Make(server);
  AwaitReady(*upstream);
  const ModelInfo model = *upstream->Describe().Find("smol");
  EXPECT_EQ(model.digest, "vllm /m");
  EXPECT_TRUE(model.capabilities & kCapResume);

  Request request = Chat();
  request.facts.resume = {1, {{{6, 7}, {2, 3, 0, 0}}}, model.digest};
  const Answer answer = Ask(*upstream, request);
  EXPECT_TRUE(answer.end.ok()) << answer.end.ToString();
  EXPECT_EQ(std::get<Accepted>(answer.events[0]).digest, model.digest);
  EXPECT_EQ(std::get<TextDelta>(answer.events[1]), (TextDelta{0, " c", {8}, {}, {3, 5, 0, 0}}));
  ASSERT_THAT(asked, SizeIs(3));
  EXPECT_THAT(asked[2], HasSubstr(R"("prompt":[1,2,6,7])"));
  EXPECT_THAT(asked[2], HasSubstr(R"("max_tokens":2044)"));

  // All of it had been delivered.
  request.facts.max_tokens = 2;
  const Answer nothing = Ask(*upstream, request);
  EXPECT_TRUE(nothing.end.ok());
  EXPECT_EQ(std::get<Accepted>(nothing.events[0]).digest, model.digest);
  EXPECT_EQ(std::get<Finished>(nothing.events[1]).reason, FinishReason::kLength);
  // The ids are not those of the text, or the model is another.
  request.facts.max_tokens.reset();
  request.facts.resume.choices[0].delivered.text_bytes = 4;
  EXPECT_EQ(Ask(*upstream, request).end.reason, "cannot_resume");
  request.facts.resume.digest = "vllm /other";
  EXPECT_EQ(Ask(*upstream, request).end.reason, "cannot_resume");
}

TEST_F(UpstreamTest, FindsOutWhatTheServerIs) {
  std::string seen;
  TestServer server([&](Exchange& e) {
    seen = e.body;
    return TwoWords(e);
  });
  UpstreamOptions options;
  options.name = "u";
  options.url = server.url();
  options.probe_interval = Millis(20);
  const auto upstream = Upstream::Make(options, pool_.At(0));
  ASSERT_TRUE(upstream);
  upstreams_.push_back(*upstream);
  AwaitReady(**upstream);
  EXPECT_EQ((*upstream)->profile().name, "vllm");
  Ask(**upstream, Chat("default"));
  EXPECT_THAT(seen, HasSubstr("return_token_ids"));
  EXPECT_THAT(seen, HasSubstr("\"model\":\"smol\""));
}

TEST_F(UpstreamTest, AKeptConnectionThatDiedIsNoFailure) {
  // Every connection ends after its first answer: at once, or when the next request has come.
  std::atomic<bool> late{false};
  std::map<int, int> served;
  std::mutex mutex;
  TestServer server([&](Exchange& e) {
    {
      std::lock_guard lock(mutex);
      if (served[e.number]++ > 0) return false;  // reads the request, closes without a word
    }
    TwoWords(e);
    return late.load();
  });
  UpstreamOptions options;
  options.profile = upstream::FindProfile("openai");  // looks at the server rarely: the connections are ours
  const auto upstream = Make(server, options);
  AwaitReady(*upstream);
  for (int i = 0; i < 20; ++i) {
    late = i % 2 == 0;
    const Answer answer = Ask(*upstream, Chat());
    ASSERT_TRUE(answer.end.ok()) << i << " " << answer.end.ToString();
    EXPECT_EQ(answer.text(), "a b");
  }
  EXPECT_TRUE(upstream->Describe().ready);
}

TEST_F(UpstreamTest, AFreshConnectionThatDiesIsAFailureAndSentOnce) {
  std::atomic<int> asked{0};
  TestServer server([&](Exchange&) {
    ++asked;
    return false;
  });
  const auto upstream = Make(server);
  AwaitReady(*upstream);
  // The kept connection of the probes may be tried first: then twice, never more.
  const Answer answer = Ask(*upstream, Chat());
  EXPECT_EQ(answer.end.code, Code::kUnavailable);
  EXPECT_TRUE(answer.end.retryable);
  EXPECT_THAT(answer.events, SizeIs(0));
  EXPECT_LE(asked.load(), 2);
}

TEST_F(UpstreamTest, DroppingTheStreamClosesTheConnection) {
  std::promise<bool> closed;
  TestServer server([&](Exchange& e) {
    e.BeginStream();
    e.Data(Word("a"));
    closed.set_value(e.AwaitClosed());
    return false;
  });
  const auto upstream = Make(server);
  AwaitReady(*upstream);
  EXPECT_EQ(Ask(*upstream, Chat(), /*pulls=*/1).text(), "a");
  EXPECT_TRUE(closed.get_future().get());
  AwaitReady(*upstream);  // and says nothing against the server
}

TEST_F(UpstreamTest, DroppingBeforeTheHeadClosesItToo) {
  std::promise<void> came;
  std::promise<bool> closed;
  TestServer server([&](Exchange& e) {
    came.set_value();
    closed.set_value(e.AwaitClosed());
    return false;
  });
  const auto upstream = Make(server);
  AwaitReady(*upstream);
  pool_.RunBlocking([](Upstream& u, Executor home, std::future<void> asked) -> Task<> {
    Context context;
    context.home = home;
    EventStream stream = u.Infer(Chat(), context);
    while (asked.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
      const NextResult next = co_await stream->Next(Clock::now() + Millis(1));
      EXPECT_EQ(next.what, NextResult::What::kTimeout);
    }
  }(*upstream, pool_.At(0), came.get_future()));
  EXPECT_TRUE(closed.get_future().get());
}

TEST_F(UpstreamTest, WhoDoesNotPullIsNotReadFor) {
  std::atomic<size_t> sent{0};
  std::atomic<bool> stuck{false};
  TestServer server([&](Exchange& e) {
    e.BeginStream();
    const std::string data = Word(std::string(10'000, 'x'));
    for (int i = 0; i < 5'000 && e.Data(data); ++i) sent += data.size();
    stuck = true;
    return false;
  });
  const auto upstream = Make(server);
  AwaitReady(*upstream);
  pool_.RunBlocking([](Upstream& u, Executor home, std::atomic<size_t>& s) -> Task<> {
    Context context;
    context.home = home;
    EventStream stream = u.Infer(Chat(), context);
    (void)co_await stream->Next(kNever);
    // The sender stands still when the buffers between us are full.
    size_t before = 1;
    while (before != s.load()) {
      before = s.load();
      co_await SleepUntil(Clock::now() + Millis(100));
    }
    EXPECT_LT(s.load(), 20'000'000u);
    (void)co_await stream->Next(kNever);
  }(*upstream, pool_.At(0), sent));
  EXPECT_FALSE(stuck && sent == 5'000u * 10'000u);
}

TEST_F(UpstreamTest, ClientsMistakesAreNoMarkAgainstTheServer) {
  TestServer server([](Exchange& e) {
    e.Respond(400, R"({"error":{"message":"bad","param":"top_p","code":400}})");
    return true;
  });
  const auto upstream = Make(server);
  AwaitReady(*upstream);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Ask(*upstream, Chat()).end, InvalidArgument("bad", "top_p"));
  EXPECT_TRUE(upstream->Describe().ready);
}

TEST_F(UpstreamTest, AServerThatFailsRequestsIsLetAloneAlthoughItsHealthIsGood) {
  std::atomic<bool> fails{true};
  TestServer server([&](Exchange& e) {
    if (!fails) return TwoWords(e);
    e.Respond(500, R"({"error":{"message":"cannot schedule new futures after shutdown","code":500}})");
    return true;
  });
  UpstreamOptions options;
  options.health.pause = Millis(2'000);
  const auto upstream = Make(server, options);
  AwaitReady(*upstream);
  for (int i = 0; i < 3; ++i) {
    const Status end = Ask(*upstream, Chat()).end;
    EXPECT_EQ(end.code, Code::kInternal);
    EXPECT_TRUE(end.retryable);
  }
  EXPECT_FALSE(upstream->Describe().ready);
  fails = false;
  AwaitReady(*upstream);
  EXPECT_TRUE(Ask(*upstream, Chat()).end.ok());
}

TEST_F(UpstreamTest, OverloadIsAnAnswerNotAFailure) {
  TestServer server([](Exchange& e) {
    e.BeginStream();  // as vLLM does it: 200, then the refusal, then [DONE]
    e.Data(R"({"error":{"message":"queue","type":"Service Unavailable","param":null,"code":503}})");
    e.EndStream();
    return true;
  });
  const auto upstream = Make(server);
  AwaitReady(*upstream);
  for (int i = 0; i < 10; ++i) {
    const Answer answer = Ask(*upstream, Chat());
    EXPECT_EQ(answer.end.reason, "overloaded");
    EXPECT_THAT(answer.events, SizeIs(0));
  }
  EXPECT_TRUE(upstream->Describe().ready);
}

TEST_F(UpstreamTest, Faults) {
  std::function<bool(Exchange&)> fault;
  TestServer server([&](Exchange& e) { return fault(e); });
  UpstreamOptions options;
  options.health.server_errors = 1000;
  const auto upstream = Make(server, options);
  AwaitReady(*upstream);
  const auto end = [&] { return Ask(*upstream, Chat()).end; };

  fault = [](Exchange& e) {  // dies in the middle
    e.BeginStream();
    e.Data(Word("a"));
    return false;
  };
  Answer answer = Ask(*upstream, Chat());
  EXPECT_EQ(answer.text(), "a");
  EXPECT_EQ(answer.end.reason, "upstream_died");
  EXPECT_TRUE(answer.end.retryable);

  fault = [](Exchange& e) {  // ends in good order, but too early
    e.BeginStream();
    e.Data(Word("a"));
    e.EndStream();
    return true;
  };
  EXPECT_EQ(end().reason, "upstream_died");

  for (const char* garbage :
       {"garbage\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n"}) {
    fault = [&](Exchange& e) {
      e.Send(garbage);
      return false;
    };
    const Status status = end();
    EXPECT_EQ(status.reason, "upstream_garbage") << garbage;
    EXPECT_TRUE(status.retryable);
  }
  fault = [](Exchange& e) {  // JSON that is no answer
    e.Respond(200, R"({"choices":[]})");
    return true;
  };
  EXPECT_EQ(end().reason, "upstream_garbage");
  fault = [](Exchange& e) {  // headers without end
    e.Send("HTTP/1.1 200 OK\r\n");
    const std::string line = "X: " + std::string(1000, 'x') + "\r\n";
    for (int i = 0; i < 1000 && e.Send(line); ++i) {
    }
    return false;
  };
  EXPECT_EQ(end().reason, "upstream_garbage");
  fault = [](Exchange& e) {  // a line without end
    e.BeginStream();
    const std::string piece(100'000, 'x');
    for (int i = 0; i < 200 && e.Chunk(piece); ++i) {
    }
    return false;
  };
  EXPECT_EQ(end().reason, "upstream_garbage");
  fault = [](Exchange& e) {  // 100 Continue first, body until the end of the connection
    e.Send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: " +
           Word("a", "stop") + "\n\n");
    return false;
  };
  EXPECT_TRUE(end().ok());
  fault = [](Exchange& e) {  // slowly, headers and all
    const std::string said =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (const char c : said) e.Send(std::string(1, c));
    e.Data(Word("a", "stop"));
    e.EndStream();
    return true;
  };
  EXPECT_TRUE(end().ok());
}

TEST_F(UpstreamTest, AStallEndsAtItsLimit) {
  TestServer server([](Exchange& e) {
    e.BeginStream();
    e.Data(Word("a"));
    return e.AwaitClosed() && false;
  });
  UpstreamOptions options;
  options.silence_limit = Millis(50);
  const auto upstream = Make(server, options);
  AwaitReady(*upstream);
  EXPECT_EQ(Ask(*upstream, Chat()).end.reason, "upstream_silent");
}

TEST_F(UpstreamTest, SlowHeadersEndAtTheirLimit) {
  TestServer server([](Exchange& e) {
    e.Send("HTTP/1.1 200 OK\r\nX-");
    return e.AwaitClosed() && false;
  });
  UpstreamOptions options;
  options.first_byte_limit = Millis(2'000);  // the connection and the request are in it
  const auto upstream = Make(server, options);
  AwaitReady(*upstream);
  EXPECT_EQ(Ask(*upstream, Chat()).end.reason, "upstream_silent");
}

TEST_F(UpstreamTest, TheDeadlineEndsIt) {
  std::promise<bool> closed;
  TestServer server([&](Exchange& e) {
    e.BeginStream();
    e.Data(Word("a"));
    closed.set_value(e.AwaitClosed());
    return false;
  });
  const auto upstream = Make(server);
  AwaitReady(*upstream);
  EXPECT_EQ(Ask(*upstream, Chat(), 1 << 30, Clock::now() + Millis(2'000)).end.code, Code::kDeadlineExceeded);
  std::future<bool> future = closed.get_future();
  ASSERT_EQ(future.wait_for(2 * kLong), std::future_status::ready);
  EXPECT_TRUE(future.get());
}

TEST_F(UpstreamTest, NobodyThere) {
  std::string url;
  {
    TestServer server(TwoWords);
    url = server.url();
  }
  UpstreamOptions options;
  options.url = url;
  const auto upstream = Upstream::Make(options, pool_.At(0));
  ASSERT_TRUE(upstream);
  upstreams_.push_back(*upstream);
  const Status end = Ask(**upstream, Chat()).end;
  EXPECT_EQ(end.reason, "upstream_unreachable");
  EXPECT_TRUE(end.retryable);
  EXPECT_THAT((*upstream)->Describe().not_ready_reasons, SizeIs(1));
}

TEST_F(UpstreamTest, AServerThatGoesAndComesBackIsSeen) {
  TestServer server(TwoWords);
  const auto upstream = Make(server);
  AwaitReady(*upstream);
  server.health = 503;
  AwaitReady(*upstream, false);
  server.health = 200;
  AwaitReady(*upstream);
}

TEST_F(UpstreamTest, AServerThatHangsEndsWhatItBegan) {
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  std::promise<void> begun;
  TestServer server([&](Exchange& e) {
    e.BeginStream();
    e.Data(Word("a"));
    begun.set_value();
    released.wait();
    return false;
  });
  UpstreamOptions options;
  options.probe_timeout = Millis(500);
  options.health.probe_failures = 2;
  const auto upstream = Make(server, options);
  AwaitReady(*upstream);
  auto answer = std::async(std::launch::async, [&] { return Ask(*upstream, Chat()); });
  EXPECT_EQ(begun.get_future().wait_for(kLong), std::future_status::ready);
  server.Hang(true);
  const Answer got = answer.get();
  EXPECT_EQ(got.text(), "a");
  EXPECT_EQ(got.end.reason, "upstream_silent");
  EXPECT_FALSE(upstream->Describe().ready);
  release.set_value();
  server.Hang(false);
  AwaitReady(*upstream);
}

TEST_F(UpstreamTest, ABadKeyIsSaid) {
  TestServer server(TwoWords);
  server.health = 401;
  server.Say("/v1/models", R"({"error":"Unauthorized"})");
  const auto upstream = Make(server);
  Await(*upstream, [](const Snapshot& s) {
    return !s.ready && s.not_ready_reasons.front() == "the model's server does not accept our key";
  });
}

TEST_F(UpstreamTest, WhatItCannotDoIsSaid) {
  TestServer server(TwoWords);
  UpstreamOptions options;
  options.profile = upstream::FindProfile("ollama");
  const auto upstream = Make(server, options);
  Request request = Chat();
  request.facts.needs = kCapLogprobs;
  EXPECT_EQ(Ask(*upstream, std::move(request)).end.code, Code::kUnimplemented);
}

TEST_F(UpstreamTest, NoTokensAreNotAskedFor) {
  TestServer server([](Exchange&) { return false; });
  const auto upstream = Make(server);
  Request request = Chat();
  request.facts.max_tokens = 0;
  request.facts.choices = 2;
  const Answer answer = Ask(*upstream, std::move(request));
  EXPECT_TRUE(answer.end.ok());
  ASSERT_THAT(answer.events, SizeIs(3));
  EXPECT_EQ(std::get<Finished>(answer.events[2]).reason, FinishReason::kLength);
}

TEST_F(UpstreamTest, DrainingLetsWhatRunsEndAndRefusesTheRest) {
  std::promise<void> go;
  std::shared_future<void> gone = go.get_future().share();
  std::promise<void> begun;
  TestServer server([&](Exchange& e) {
    e.BeginStream();
    e.Data(Word("a"));
    begun.set_value();
    gone.wait();
    e.Data(Word("b", "stop"));
    e.EndStream();
    return true;
  });
  const auto upstream = Make(server);
  AwaitReady(*upstream);
  auto running = std::async(std::launch::async, [&] { return Ask(*upstream, Chat()); });
  begun.get_future().wait();
  auto drain = std::async(std::launch::async, [&] { upstream->Drain(Clock::now() + kLong); });
  AwaitReady(*upstream, false);
  IoPool other(1);
  Status refused;
  other.RunBlocking([](Upstream& u, Executor home, Status& out) -> Task<> {
    Context context;
    context.home = home;
    out = (co_await u.Infer(Chat(), context)->Next(kNever)).end;
  }(*upstream, other.At(0), refused));
  EXPECT_EQ(refused.reason, "draining");
  go.set_value();
  EXPECT_EQ(running.get().text(), "ab");
  drain.get();
  upstream->Close();
}

TEST_F(UpstreamTest, ClosingEndsWhatRuns) {
  std::promise<void> begun;
  TestServer server([&](Exchange& e) {
    e.BeginStream();
    e.Data(Word("a"));
    begun.set_value();
    return e.AwaitClosed() && false;
  });
  const auto upstream = Make(server);
  AwaitReady(*upstream);
  auto running = std::async(std::launch::async, [&] { return Ask(*upstream, Chat()); });
  begun.get_future().wait();
  upstream->Close();
  const Answer answer = running.get();
  EXPECT_EQ(answer.end.reason, "draining");
}

TEST_F(UpstreamTest, BadOptions) {
  for (const char* url : {"", "127.0.0.1:1", "http://", "http://a b:1", "http://a:0", "http://a:99999",
                          "http://u:p@h", "ftp://h", "unix:", "http://h/a?b"}) {
    UpstreamOptions options;
    options.url = url;
    EXPECT_EQ(Upstream::Make(options, pool_.At(0)).error().code, Code::kInvalidArgument) << url;
  }
  UpstreamOptions options;
  options.url = "https://localhost:1";
  options.tls.ca = "/nowhere.pem";
  EXPECT_THAT(Upstream::Make(options, pool_.At(0)).error().message, HasSubstr("/nowhere.pem"));
}

}  // namespace
}  // namespace cyllm
