#include "gateway/gateway.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <spdlog/sinks/ostream_sink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <sstream>

#include "base/log.h"
#include "inference/fake_service.h"
#include "inference/prefix_hash.h"

namespace cyllm {
namespace {

namespace json = boost::json;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A client of its own, blocking, with a deadline of 20 s on every read.
class Client {
 public:
  explicit Client(const std::string& address) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    const size_t colon = address.rfind(':');
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(colon + 1))));
    inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr);
    const timeval limit{20, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  }
  ~Client() { Close(); }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  void HalfClose() { shutdown(fd_, SHUT_WR); }
  bool Send(std::string_view data) {
    while (!data.empty()) {
      const ssize_t n = send(fd_, data.data(), data.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      data.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  // Reads until `mark` is in what was read (and not yet taken), or the end; takes it all up to and with the
  // mark.
  std::string Until(std::string_view mark) {
    size_t at;
    while ((at = data_.find(mark)) == std::string::npos) {
      if (!Fill()) return std::exchange(data_, {});
    }
    std::string out = data_.substr(0, at + mark.size());
    data_.erase(0, out.size());
    return out;
  }
  // One response with a Content-Length.
  std::string Response() {
    std::string head = Until("\r\n\r\n");
    const size_t at = head.find("Content-Length: ");
    if (at == std::string::npos) return head;
    const size_t length = std::stoul(head.substr(at + 16));
    while (data_.size() < length && Fill()) {
    }
    head += data_.substr(0, length);
    data_.erase(0, length);
    return head;
  }
  // Nothing has come.
  bool Silent() const {
    char byte;
    return data_.empty() && recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
  }
  std::string Rest() {
    while (Fill()) {
    }
    return std::exchange(data_, {});
  }

 private:
  bool Fill() {
    char buffer[4096];
    const ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
    if (n <= 0) return false;
    data_.append(buffer, static_cast<size_t>(n));
    return true;
  }
  int fd_;
  std::string data_;
};

std::string Post(const std::string& path, const std::string& body, const std::string& headers = "") {
  return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

std::string Get(const std::string& path, const std::string& headers = "") {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n";
}

constexpr char kChat[] = R"({"model":"m","messages":[{"role":"user","content":"hi"}]})";
constexpr char kStream[] = R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]})";

json::value BodyOf(const std::string& response) {
  return json::parse(response.substr(response.find("\r\n\r\n") + 4));
}

class GatewayTest : public testing::Test {
 protected:
  void Start(std::vector<Script> scripts, std::function<void(GatewayOptions&)> change = {}) {
    service_ = std::make_shared<FakeService>(std::move(scripts));
    Snapshot snapshot;
    snapshot.models.push_back({.id = "org/m", .engine = "fake", .max_model_len = 512, .created = 7});
    snapshot.ready = true;
    service_->SetSnapshot(snapshot);
    GatewayOptions options;
    options.listen = "127.0.0.1:0";
    if (change) change(options);
    gateway_ = std::make_unique<Gateway>(options, pool_, service_);
    const Status started = gateway_->Start();
    ASSERT_TRUE(started.ok()) << started.message;
  }
  std::string Ask(const std::string& request) {
    Client client(gateway_->address());
    client.Send(request);
    return client.Response();
  }
  static Script Answer() { return {TextAnswer({"Hel", "lo"}), {}, false}; }

  IoPool pool_{2};
  std::shared_ptr<FakeService> service_;
  std::unique_ptr<Gateway> gateway_;
};

TEST_F(GatewayTest, WholeAnswer) {
  Start({Answer()});
  const std::string response = Ask(Post("/v1/chat/completions", kChat, "X-Request-Id: my-id\r\n"));
  EXPECT_THAT(response, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(response, HasSubstr("X-Request-Id: my-id\r\n"));
  const json::value body = BodyOf(response);
  EXPECT_EQ(body.at("choices").at(0).at("message").at("content"), "Hello");
  EXPECT_EQ(body.at("choices").at(0).at("finish_reason"), "stop");
  EXPECT_EQ(body.at("usage").at("prompt_tokens"), 3);
  EXPECT_EQ(body.at("model"), "m");
  EXPECT_TRUE(body.at("performance").as_object().contains("ttft_ms"));
  EXPECT_EQ(service_->seen().at(0).context.request_id, "my-id");
}

TEST_F(GatewayTest, StreamsWhatIsThereBeforeTheRest) {
  Batch begin = TextAnswer({"Hel"});
  begin.pop_back();  // Finished comes later
  Start({{begin, {}, true}});
  Client client(gateway_->address());
  client.Send(Post("/v1/chat/completions", kStream));
  const std::string head = client.Until("\r\n\r\n");
  EXPECT_THAT(head, HasSubstr("Content-Type: text/event-stream"));
  EXPECT_THAT(head, HasSubstr("Cache-Control: no-cache"));
  EXPECT_THAT(head, HasSubstr("Transfer-Encoding: chunked"));
  EXPECT_THAT(client.Until("\n\n"), HasSubstr(R"("delta":{"role":"assistant","content":""})"));
  EXPECT_THAT(client.Until("\n\n"), HasSubstr(R"("delta":{"content":"Hel"})"));
  ASSERT_TRUE(service_->WaitForRequests(1));
  const auto seen = service_->seen().at(0);
  seen.pipe->Push(Finished{});
  seen.pipe->End(Status::Ok());
  EXPECT_THAT(client.Until("\n\n"), HasSubstr(R"("delta":{},"logprobs":null,"finish_reason":"stop")"));
  EXPECT_THAT(client.Until("\n\n"), HasSubstr("data: [DONE]"));
  EXPECT_THAT(client.Until("0\r\n\r\n"), HasSubstr("0\r\n\r\n"));
  client.Send(Get("/health"));  // the connection lives on
  EXPECT_THAT(client.Response(), HasSubstr("200 OK"));
}

TEST_F(GatewayTest, RefusalBeforeAcceptedKeepsItsStatusInStreams) {
  Start({{{}, Unavailable("all busy", "overloaded", std::chrono::seconds(3)), false}});
  const std::string response = Ask(Post("/v1/chat/completions", kStream));
  EXPECT_THAT(response, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(response, HasSubstr("Retry-After: 3\r\n"));
  EXPECT_EQ(BodyOf(response).at("error").at("code"), "overloaded");
}

TEST_F(GatewayTest, OnlyStreamedResponsesAreToldOfAFullContextInTheStream) {
  Start({{{},
          InvalidArgument("The maximum context length is 8 tokens; it has 9", "", "context_length_exceeded"),
          false}});
  for (const char* stream : {"false", "true"}) {
    const std::string fields = std::string(R"({"model":"m","max_tokens":9,"stream":)") + stream;
    const std::string messages = R"(,"messages":[{"role":"user","content":"hi"}]})";
    EXPECT_THAT(Ask(Post("/v1/chat/completions", fields + messages)), StartsWith("HTTP/1.1 400"));
    EXPECT_THAT(Ask(Post("/v1/messages", fields + messages)), StartsWith("HTTP/1.1 400"));
  }
  EXPECT_THAT(Ask(Post("/v1/responses", R"({"input":"hi"})")), StartsWith("HTTP/1.1 400"));
  Client client(gateway_->address());
  client.Send(Post("/v1/responses", R"({"input":"hi","stream":true})", "Connection: close\r\n"));
  const std::string all = client.Rest();
  EXPECT_THAT(all, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(all, HasSubstr("event: response.created\n"));
  EXPECT_THAT(all, HasSubstr("event: response.failed\n"));
  EXPECT_THAT(all, HasSubstr(R"("error":{"code":"context_length_exceeded","message":"The maximum)"));
}

TEST_F(GatewayTest, FailureMidStreamIsAnErrorEvent) {
  Batch begin = TextAnswer({"Hel"});
  begin.pop_back();
  Start({{begin, Unavailable("the worker died"), false}});
  Client client(gateway_->address());
  client.Send(Post("/v1/chat/completions", kStream, "Connection: close\r\n"));
  const std::string all = client.Rest();
  EXPECT_THAT(all, HasSubstr(R"(data: {"error":{"message":"the worker died","type":"unavailable_error")"));
  EXPECT_THAT(all, Not(HasSubstr("[DONE]")));
  EXPECT_THAT(all, HasSubstr("0\r\n\r\n"));
}

TEST_F(GatewayTest, LongSilenceCommitsTheHeaderAndPings) {
  Start({{{}, {}, true}}, [](GatewayOptions& o) {
    o.header_commit = Millis(20);
    o.sse_ping = Millis(20);
  });
  Client client(gateway_->address());
  client.Send(Post("/v1/chat/completions", kStream));
  EXPECT_THAT(client.Until("\r\n\r\n"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(client.Until(": ping\n\n"), HasSubstr(": ping\n\n"));
  EXPECT_THAT(client.Until(": ping\n\n"), HasSubstr(": ping\n\n"));
  service_->seen().at(0).pipe->Push(Accepted{3, 0, "w1", "d", true, {"random", 0, 0, 1}});
  EXPECT_THAT(client.Until("resumed=0\n\n"), HasSubstr("\n: x-cy-route: worker=w1; policy=random;"));
  service_->seen().at(0).pipe->End(Unavailable("load failed"));
  EXPECT_THAT(client.Until("}}\n\n"), HasSubstr("load failed"));
}

TEST_F(GatewayTest, HangupCancels) {
  Start({{{}, {}, true}});
  for (const char* body : {kStream, kChat}) {
    const size_t before = service_->seen().size();
    Client client(gateway_->address());
    client.Send(Post("/v1/chat/completions", body));
    ASSERT_TRUE(service_->WaitForRequests(before + 1));
    client.Close();
    EXPECT_TRUE(service_->WaitForDrop(before));
  }
}

TEST_F(GatewayTest, AClientThatHasSaidItsLastIsGone) {
  Start({{{}, {}, true}});
  for (const char* body : {kStream, kChat}) {
    const size_t before = service_->seen().size();
    Client client(gateway_->address());
    client.Send(Post("/v1/chat/completions", body));
    ASSERT_TRUE(service_->WaitForRequests(before + 1));
    client.HalfClose();
    EXPECT_TRUE(service_->WaitForDrop(before));
  }
}

TEST_F(GatewayTest, HangupCancelsAlsoAfterAPieceOfTheNextRequest) {
  Start({{{}, {}, true}});
  Client client(gateway_->address());
  client.Send(Post("/v1/chat/completions", kChat));
  ASSERT_TRUE(service_->WaitForRequests(1));
  client.Send("G");
  client.Close();
  EXPECT_TRUE(service_->WaitForDrop(0));
}

TEST_F(GatewayTest, RefusedRequestsAreLoggedWithoutTheirText) {
  std::ostringstream log;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
  Start({});
  EXPECT_THAT(Ask(Post("/v1/chat/completions", R"({"model":"m","messages":"my secret"})")),
              HasSubstr("my secret"));
  gateway_->Stop();  // the line comes after the answer
  spdlog::set_default_logger(before);
  EXPECT_THAT(log.str(), HasSubstr("-> 400"));
  EXPECT_THAT(log.str(), HasSubstr("INVALID_ARGUMENT 'messages'"));
  EXPECT_THAT(log.str(), Not(HasSubstr("secret")));
}

TEST_F(GatewayTest, AClientThatReadsNothingIsCutOff) {
  Batch much = {Event(Accepted{})};
  for (uint64_t i = 1; i <= 64; ++i)
    much.push_back(TextDelta{0, std::string(256 << 10, 'x'), {1}, {}, {i, i << 18}});
  Start({{much, {}, true}}, [](GatewayOptions& o) { o.write_stall = Millis(50); });
  Client client(gateway_->address());
  client.Send(Post("/v1/chat/completions", kStream));
  EXPECT_TRUE(service_->WaitForDrop(0));  // far more than the kernel's buffers hold
  EXPECT_THAT(client.Rest(), Not(HasSubstr("[DONE]")));
}

TEST_F(GatewayTest, DeadlineIs504) {
  Start({{{}, {}, true}}, [](GatewayOptions& o) { o.request_timeout = Millis(30); });
  const std::string late = Ask(Post("/v1/chat/completions", kChat));
  EXPECT_THAT(late, StartsWith("HTTP/1.1 504"));
  EXPECT_THAT(late, HasSubstr("x-should-retry: false\r\n"));
  EXPECT_TRUE(service_->WaitForDrop(0));
}

TEST_F(GatewayTest, SeveralPromptsInOrder) {
  Start({Answer()});
  const json::value body =
      BodyOf(Ask(Post("/v1/completions", R"({"model":"m","prompt":["a","b","c"],"max_tokens":5})")));
  ASSERT_EQ(body.at("choices").as_array().size(), 3u);
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(body.at("choices").at(i).at("index").to_number<uint64_t>(), i);
    EXPECT_EQ(body.at("choices").at(i).at("text"), "Hello");
  }
  EXPECT_EQ(body.at("usage").at("prompt_tokens"), 9);
  EXPECT_EQ(body.at("usage").at("completion_tokens"), 6);
}

TEST_F(GatewayTest, TokensGuardInferenceAndModels) {
  Start({Answer()}, [](GatewayOptions& o) { o.api_tokens = {"secret"}; });
  for (const char* headers : {"", "Authorization: Bearer wrong\r\n", "Authorization: secret\r\n"}) {
    const std::string response = Ask(Post("/v1/chat/completions", kChat, headers));
    EXPECT_THAT(response, StartsWith("HTTP/1.1 401"));
    EXPECT_THAT(response, HasSubstr("WWW-Authenticate: Bearer"));
    EXPECT_EQ(BodyOf(response).at("error").at("type"), "authentication_error");
  }
  EXPECT_THAT(Ask(Get("/v1/models")), StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(Ask(Get("/health")), StartsWith("HTTP/1.1 200"));
  EXPECT_TRUE(service_->seen().empty());
  EXPECT_THAT(Ask(Post("/v1/chat/completions", kChat, "Authorization: bearer secret\r\n")),
              StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Ask(Get("/v1/models", "X-Api-Key: secret\r\n")), StartsWith("HTTP/1.1 200"));
}

TEST_F(GatewayTest, TokensComeWithTheContextsLength) {
  Start({Answer(), Answer()});
  const auto ask = [&](const char* model) {
    return BodyOf(Ask(Post("/tokenize", std::string(R"({"prompt":"a","model":")") + model + R"("})")));
  };
  EXPECT_EQ(ask("org/m").at("max_model_len"), 512);
  EXPECT_FALSE(ask("m").as_object().contains("max_model_len"));
}

TEST_F(GatewayTest, Models) {
  Start({});
  const json::value list = BodyOf(Ask(Get("/v1/models")));
  EXPECT_EQ(list.at("data").at(0).at("id"), "org/m");
  for (const char* path : {"/v1/models/org/m", "/v1/models/org%2Fm", "/models/org/m"}) {
    const json::value one = BodyOf(Ask(Get(path)));
    EXPECT_EQ(one.at("id"), "org/m");
    EXPECT_EQ(one.at("max_model_len"), 512);
  }
  const std::string missing = Ask(Get("/v1/models/nope"));
  EXPECT_THAT(missing, StartsWith("HTTP/1.1 404"));
  EXPECT_EQ(BodyOf(missing).at("error").at("code"), "model_not_found");
}

TEST_F(GatewayTest, ReadyFollowsTheService) {
  Start({});
  EXPECT_THAT(Ask(Get("/ready")), StartsWith("HTTP/1.1 200"));
  Snapshot snapshot;
  snapshot.not_ready_reasons = {"no worker"};
  service_->SetSnapshot(snapshot);
  const std::string response = Ask(Get("/ready"));
  EXPECT_THAT(response, StartsWith("HTTP/1.1 503"));
  EXPECT_EQ(BodyOf(response).at("reasons").at(0), "no worker");
  EXPECT_THAT(Ask(Get("/health")), StartsWith("HTTP/1.1 200"));
}

TEST_F(GatewayTest, WrongPathsAndMethods) {
  Start({});
  EXPECT_THAT(Ask(Get("/nope")), StartsWith("HTTP/1.1 404"));
  const std::string method = Ask(Get("/v1/chat/completions"));
  EXPECT_THAT(method, StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(method, HasSubstr("Allow: POST"));
  EXPECT_THAT(Ask("BREW /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"), HasSubstr("Allow: GET, HEAD, OPTIONS\r\n"));
  for (const char* path : {"/v1/moderations", "/v1/audio/transcriptions", "/v1/images/generations"}) {
    const std::string absent = Ask(Post(path, "{}"));
    EXPECT_THAT(absent, StartsWith("HTTP/1.1 404"));
    EXPECT_EQ(BodyOf(absent).at("error").at("code"), "not_found");
  }
  EXPECT_THAT(Ask(Post("/health", "{}")), StartsWith("HTTP/1.1 405"));
  Client client(gateway_->address());
  client.Send("HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n" + Get("/ready"));
  EXPECT_THAT(client.Until("\r\n\r\n"), HasSubstr("Content-Length: 15"));
  EXPECT_THAT(client.Response(), HasSubstr("ready"));  // and no body came between
}

TEST_F(GatewayTest, MalformedRequestsAreAnswered) {
  Start({}, [](GatewayOptions& o) {
    o.max_header_bytes = 1024;
    o.max_body_bytes = 1000;
  });
  EXPECT_THAT(Ask("garbage\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(Ask(Get("/health", "X: " + std::string(5000, 'x') + "\r\n")), StartsWith("HTTP/1.1 431"));
  EXPECT_THAT(Ask(Post("/v1/chat/completions", "{")), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(Ask("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: "
                  "text/plain\r\nContent-Length: 2\r\n\r\n{}"),
              StartsWith("HTTP/1.1 400"));
  const std::string large =
      Ask("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
  EXPECT_THAT(large, StartsWith("HTTP/1.1 413"));
  EXPECT_EQ(BodyOf(large).at("error").at("code"), "request_too_large");
  std::string chunked = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 3; ++i) chunked += "1f4\r\n" + std::string(500, 'x') + "\r\n";
  EXPECT_THAT(Ask(chunked + "0\r\n\r\n"), StartsWith("HTTP/1.1 413"));
}

TEST_F(GatewayTest, SlowRequestsAreCutOff) {
  Start({}, [](GatewayOptions& o) {
    o.header_timeout = Millis(2'000);  // the first byte has to come in it too
    o.body_timeout = Millis(30);
  });
  EXPECT_THAT(Ask("GET /health HT"), StartsWith("HTTP/1.1 408"));
  EXPECT_THAT(Ask("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"),
              StartsWith("HTTP/1.1 408"));
}

TEST_F(GatewayTest, ExpectContinue) {
  Start({Answer()});
  Client client(gateway_->address());
  const std::string body = kChat;
  client.Send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: " +
              std::to_string(body.size()) + "\r\n\r\n");
  EXPECT_THAT(client.Until("\r\n\r\n"), StartsWith("HTTP/1.1 100"));
  client.Send(body);
  EXPECT_THAT(client.Response(), StartsWith("HTTP/1.1 200"));
}

TEST_F(GatewayTest, PipelinedRequestsAreAnsweredInOrder) {
  Start({Answer()});
  Client client(gateway_->address());
  client.Send(Post("/v1/chat/completions", kChat) + Get("/health") + Post("/v1/chat/completions", kChat));
  EXPECT_THAT(client.Response(), HasSubstr("Hello"));
  EXPECT_THAT(client.Response(), HasSubstr("\"ok\""));
  EXPECT_THAT(client.Response(), HasSubstr("Hello"));
}

TEST_F(GatewayTest, Http10GetsNoChunks) {
  Start({Answer()});
  Client client(gateway_->address());
  const std::string body = kStream;
  client.Send("POST /v1/chat/completions HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) +
              "\r\n\r\n" + body);
  const std::string all = client.Rest();
  EXPECT_THAT(all, Not(HasSubstr("chunked")));
  EXPECT_THAT(all, testing::EndsWith("data: [DONE]\n\n"));
}

TEST_F(GatewayTest, DrainFinishesWhatRuns) {
  Start({{{}, {}, true}});
  Client busy(gateway_->address()), idle(gateway_->address());
  idle.Send(Get("/health"));
  EXPECT_THAT(idle.Response(), StartsWith("HTTP/1.1 200"));
  busy.Send(Post("/v1/chat/completions", kChat));
  ASSERT_TRUE(service_->WaitForRequests(1));
  std::thread drain([&] { EXPECT_TRUE(gateway_->Drain(Clock::now() + std::chrono::seconds(20))); });
  EXPECT_EQ(idle.Rest(), "");  // closed
  for (Event& event : Answer().events) service_->seen().at(0).pipe->Push(event);
  service_->seen().at(0).pipe->End(Status::Ok());
  const std::string response = busy.Response();
  EXPECT_THAT(response, HasSubstr("Hello"));
  EXPECT_THAT(response, HasSubstr("Connection: close"));
  drain.join();
}

TEST_F(GatewayTest, WhatStillRunsWhenDrainingEndsIsToldSo) {
  Batch begin = TextAnswer({"Hel"});
  begin.pop_back();
  Start({{begin, {}, true}, {{}, {}, true}, {{}, {}, true}});
  Client begun(gateway_->address()), waiting(gateway_->address()), whole(gateway_->address());
  begun.Send(Post("/v1/chat/completions", kStream));
  begun.Until("Hel");
  waiting.Send(Post("/v1/chat/completions", kStream));
  ASSERT_TRUE(service_->WaitForRequests(2));
  whole.Send(
      Post("/v1/messages", R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]})"));
  ASSERT_TRUE(service_->WaitForRequests(3));
  gateway_->Drain(Clock::now());
  const std::string cut = begun.Rest();
  EXPECT_THAT(cut, HasSubstr(R"(data: {"error":{"message":"The server is shutting down.")"));
  EXPECT_THAT(cut, testing::EndsWith("0\r\n\r\n"));
  EXPECT_THAT(cut, Not(HasSubstr("[DONE]")));
  const std::string refused = waiting.Response();
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(refused, HasSubstr("Retry-After: 1\r\n"));
  EXPECT_THAT(whole.Response(), StartsWith("HTTP/1.1 529"));
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(service_->WaitForDrop(i));
}

TEST_F(GatewayTest, StopEndsStreams) {
  Start({{{}, {}, true}});
  Client client(gateway_->address());
  client.Send(Post("/v1/chat/completions", kStream));
  ASSERT_TRUE(service_->WaitForRequests(1));
  gateway_->Stop();
  EXPECT_TRUE(service_->WaitForDrop(0));
}

TEST_F(GatewayTest, PagesOfThisMachineMayAskAndOthersNot) {
  Start({Answer()});
  const std::string preflight =
      Ask("OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: x\r\nOrigin: http://localhost:3000\r\n"
          "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization, "
          "x-stainless-os\r\n\r\n");
  EXPECT_THAT(preflight, StartsWith("HTTP/1.1 204"));
  EXPECT_THAT(preflight, HasSubstr("Access-Control-Allow-Origin: http://localhost:3000\r\n"));
  EXPECT_THAT(preflight, HasSubstr("Access-Control-Allow-Headers: authorization, x-stainless-os\r\n"));
  EXPECT_THAT(preflight, HasSubstr("Vary: Origin\r\n"));
  const std::string other = Ask(Post("/v1/chat/completions", kChat, "Origin: https://evil.example\r\n"));
  EXPECT_THAT(other, StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(other, Not(HasSubstr("Access-Control-Allow-Origin")));
  EXPECT_TRUE(service_->seen().empty());
}

TEST_F(GatewayTest, WithTokensAnyPageMayAsk) {
  Start({Answer()}, [](GatewayOptions& o) { o.api_tokens = {"t"}; });
  const std::string origin = "Origin: https://app.example\r\n";
  EXPECT_THAT(Ask("OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\n" + origin + "\r\n"),
              StartsWith("HTTP/1.1 204"));
  for (const std::string& request :
       {Get("/v1/models", origin),
        Post("/v1/chat/completions", kStream, origin + "Authorization: Bearer t\r\n"),
        Get("/nothing", origin)}) {
    Client client(gateway_->address());
    client.Send(request);
    EXPECT_THAT(client.Until("\r\n\r\n"), HasSubstr("Access-Control-Allow-Origin: *\r\n")) << request;
  }
}

TEST_F(GatewayTest, AliasesFallbackAndLimits) {
  Start({Answer()}, [](GatewayOptions& o) {
    o.model_aliases = {{"gpt", "org/m"}};
    o.model_fallback = true;
    o.default_max_tokens = 50;
    o.max_max_tokens = 100;
  });
  const auto ask = [&](const std::string& fields) {
    const json::value body = BodyOf(
        Ask(Post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"x"}],)" + fields + "}")));
    return std::pair(service_->seen().back().request.facts, std::string(body.at("model").as_string()));
  };
  auto [facts, named] = ask(R"("model":"gpt")");
  EXPECT_EQ(facts.model, "org/m");
  EXPECT_EQ(facts.max_tokens, 50u);
  EXPECT_EQ(named, "gpt");
  std::tie(facts, named) = ask(R"("model":"other","max_tokens":1000)");
  EXPECT_EQ(facts.model, "default");
  EXPECT_EQ(facts.max_tokens, 100u);
  const json::value models = BodyOf(Ask(Get("/v1/models")));
  EXPECT_EQ(models.at("data").at(0).at("id"), "gpt");
  EXPECT_EQ(models.at("data").at(0).at("root"), "org/m");
}

TEST_F(GatewayTest, AnAdapterIsListedAndAskedForAsAModel) {
  Start({Answer()});
  Snapshot snapshot = service_->Describe();
  snapshot.models[0].adapters = {"law"};
  service_->SetSnapshot(snapshot);
  const json::value law = BodyOf(Ask(Get("/v1/models/law")));
  EXPECT_EQ(law.at("id"), "law");
  EXPECT_EQ(law.at("parent"), "org/m");
  EXPECT_FALSE(BodyOf(Ask(Get("/v1/models/org/m"))).as_object().contains("parent"));
  const json::value body = BodyOf(
      Ask(Post("/v1/chat/completions", R"({"model":"law","messages":[{"role":"user","content":"x"}]})")));
  EXPECT_EQ(body.at("model"), "law") << "the name that was asked for";
  const RequestFacts facts = service_->seen().back().request.facts;
  EXPECT_EQ(facts.model + "/" + facts.adapter, "org/m/law");
}

TEST_F(GatewayTest, WhomToStayWithHeaderThenBodyThenKey) {
  Start({Answer()}, [](GatewayOptions& o) { o.api_tokens = {"k"}; });
  const auto ask = [&](const char* path, const std::string& fields, const std::string& headers) {
    Ask(Post(path, R"({"messages":[{"role":"user","content":"x"}],"max_tokens":1)" + fields + "}",
             "Authorization: Bearer k\r\n" + headers));
    return service_->seen().back().request.facts.affinity;
  };
  const char* kChatPath = "/v1/chat/completions";
  EXPECT_EQ(ask(kChatPath, "", ""), Hash64("k"));
  EXPECT_EQ(ask(kChatPath, R"(,"user":"u")", ""), Hash64("u"));
  EXPECT_EQ(ask(kChatPath, R"(,"user":"u")", "x-cy-affinity: h\r\n"), Hash64("h"));
  EXPECT_EQ(ask("/v1/messages", R"(,"metadata":{"user_id":"u"})", ""), Hash64("u"));
  EXPECT_EQ(ask("/v1/messages", R"(,"metadata":"u")", ""), Hash64("k"));
}

TEST_F(GatewayTest, ReloadTakesOverWithoutDroppingAStream) {
  Batch begin = TextAnswer({"Hel"});
  begin.pop_back();
  Start({{begin, {}, true}, Answer()});
  Client running(gateway_->address());
  running.Send(Post("/v1/chat/completions", kStream));
  running.Until("Hel");
  GatewayOptions options;
  options.max_body_bytes = 100;
  options.listen = "0.0.0.0:0";
  EXPECT_EQ(gateway_->Reload(options).code, Code::kInvalidArgument);  // it would be open, there
  options.listen = "127.0.0.1:0";
  options.api_tokens = {"new"};
  ASSERT_TRUE(gateway_->Reload(options).ok());
  EXPECT_THAT(Ask(Post("/v1/chat/completions", kChat)), StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(Ask(Post("/v1/chat/completions", kChat, "Authorization: Bearer new\r\n")),
              StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Ask(Post("/v1/chat/completions", std::string(200, ' '), "Authorization: Bearer new\r\n")),
              StartsWith("HTTP/1.1 413"));
  const auto seen = service_->seen().at(0);
  seen.pipe->Push(Finished{});
  seen.pipe->End(Status::Ok());
  EXPECT_THAT(running.Until("[DONE]"), HasSubstr("[DONE]"));
  options.tls_certificate = options.tls_key = "/nowhere";
  EXPECT_FALSE(gateway_->Reload(options).ok());
}

TEST_F(GatewayTest, ConnectionsOfAnAddressAreBounded) {
  Start({}, [](GatewayOptions& o) { o.max_connections_per_address = 2; });
  Client one(gateway_->address()), two(gateway_->address());
  for (Client* client : {&one, &two}) {
    client->Send(Get("/health"));
    EXPECT_THAT(client->Response(), StartsWith("HTTP/1.1 200"));
  }
  Client three(gateway_->address());
  three.Send(Post("/v1/chat/completions", std::string(1 << 20, 'x')));  // the answer is read all the same
  const std::string refused = three.Rest();
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(refused, HasSubstr("Retry-After: 1\r\n"));
  EXPECT_EQ(BodyOf(refused).at("error").at("code"), "too_many_connections");
  two.Send(Get("/health", "Connection: close\r\n"));
  EXPECT_THAT(two.Rest(), StartsWith("HTTP/1.1 200"));
}

TEST_F(GatewayTest, ACrowdOfAnAddressIsToldInPassing) {
  Start({}, [](GatewayOptions& o) { o.max_connections_per_address = 1; });
  Client one(gateway_->address());
  one.Send(Get("/health"));
  EXPECT_THAT(one.Response(), StartsWith("HTTP/1.1 200"));
  std::vector<std::unique_ptr<Client>> crowd;
  for (int i = 0; i < 80; ++i) crowd.push_back(std::make_unique<Client>(gateway_->address()));
  Client last(gateway_->address());
  last.Send(Get("/health"));
  EXPECT_THAT(last.Rest(), HasSubstr("too_many_connections"));
  one.Send(Get("/health"));
  EXPECT_THAT(one.Response(), StartsWith("HTTP/1.1 200"));
}

TEST_F(GatewayTest, WhenAllConnectionsAreTakenOthersWait) {
  Start({}, [](GatewayOptions& o) { o.max_connections = 2; });
  Client one(gateway_->address()), two(gateway_->address());
  for (Client* client : {&one, &two}) {
    client->Send(Get("/health"));
    EXPECT_THAT(client->Response(), StartsWith("HTTP/1.1 200"));
  }
  Client three(gateway_->address());
  three.Send(Get("/health"));
  one.Send(Get("/health"));
  EXPECT_THAT(one.Response(), StartsWith("HTTP/1.1 200"));
  EXPECT_TRUE(three.Silent());
  one.Close();
  EXPECT_THAT(three.Response(), StartsWith("HTTP/1.1 200"));
  Client four(gateway_->address());
  four.Send(Get("/health"));
  two.Send(Get("/health"));
  EXPECT_THAT(two.Response(), StartsWith("HTTP/1.1 200"));
  EXPECT_TRUE(four.Silent());
  GatewayOptions more;
  more.listen = "127.0.0.1:0";
  more.max_connections = 9;
  ASSERT_TRUE(gateway_->Reload(more).ok());
  EXPECT_THAT(four.Response(), StartsWith("HTTP/1.1 200"));
}

TEST_F(GatewayTest, WhatIsNoRequestIsRefusedInTheWordsOfItsPath) {
  Start({}, [](GatewayOptions& o) {
    o.max_body_bytes = 100;
    o.body_timeout = Millis(30);
    o.api_tokens = {"t"};
  });
  const std::string large =
      Ask(Post("/v1/messages", std::string(200, ' '), "Origin: https://app.example\r\n"));
  EXPECT_THAT(large, StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(large, HasSubstr("Access-Control-Allow-Origin: *\r\n"));
  EXPECT_THAT(large, HasSubstr("request-id: req-"));
  EXPECT_EQ(BodyOf(large).at("error").at("type"), "request_too_large");
  EXPECT_THAT(std::string(BodyOf(large).at("request_id").as_string()), StartsWith("req-"));
  EXPECT_TRUE(BodyOf(Ask(Post("/api/chat", std::string(200, ' ')))).at("error").is_string());
  const std::string slow = Ask("POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{");
  EXPECT_THAT(slow, StartsWith("HTTP/1.1 408"));
  EXPECT_EQ(BodyOf(slow).at("type"), "error");
}

TEST_F(GatewayTest, DialectsRefuseInTheirOwnWords) {
  Start({}, [](GatewayOptions& o) { o.api_tokens = {"t"}; });
  const std::string claude = Ask(Post("/v1/messages", "{}", "X-Request-Id: r1\r\n"));
  EXPECT_THAT(claude, StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(claude, HasSubstr("request-id: r1\r\n"));
  EXPECT_EQ(BodyOf(claude).at("error").at("type"), "authentication_error");
  EXPECT_EQ(BodyOf(claude).at("request_id"), "r1");
  EXPECT_TRUE(BodyOf(Ask(Post("/api/chat", "{}"))).at("error").is_string());
  EXPECT_TRUE(BodyOf(Ask(Get("/api/nothing"))).at("error").is_string());
  EXPECT_EQ(BodyOf(Ask(Post("/api/v1/inference", "{}"))).at("error").at("code"), "UNAUTHORIZED");
  EXPECT_THAT(Ask(Get("/")), HasSubstr("Ollama is running"));
}

TEST_F(GatewayTest, ListenErrorNamesTheAddress) {
  Start({});
  GatewayOptions options;
  options.listen = gateway_->address();
  Gateway second(options, pool_, service_);
  const Status status = second.Start();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message, HasSubstr(gateway_->address()));
}

}  // namespace
}  // namespace cyllm
