#include "worker/engine_host/engine_host.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "inference/fake_service.h"

namespace cyllm {
namespace {

using testing::HasSubstr;

class EngineHostTest : public testing::Test {
 protected:
  std::shared_ptr<EngineHost> Echo(const std::string& options) {
    auto host = EngineHost::Load(Manifests().at(0), R"({"model":{)" + options + "}}", "w1", {});
    EXPECT_TRUE(host) << host.error().message;
    return *host;
  }
  static std::vector<Manifest> Manifests() {
    auto all = ReadManifests(CY_ENGINE_DIR);
    EXPECT_TRUE(all) << all.error().message;
    std::erase_if(*all, [](const Manifest& m) { return m.name != "echo"; });
    return *all;
  }
  Request Ask(const std::string& text, std::optional<uint32_t> max_tokens = {}) {
    PayloadParts parts;
    parts.messages_json = R"([{"role":"user","content":")" + text + R"("}])";
    Request request{{}, Payload::Of(parts)};
    request.facts.model = "default";
    request.facts.max_tokens = max_tokens;
    return request;
  }
  Context Here() {
    Context context;
    context.home = pool_.At(0);
    return context;
  }
  Collected Run(EngineHost& host, Request request) {
    Collected out;
    pool_.RunBlocking([](EngineHost& h, Request r, Context c, Collected& o) -> Task<> {
      EventStream stream = h.Infer(r, c);
      co_await Collect(*stream, o);
    }(host, std::move(request), Here(), out));
    return out;
  }

  IoPool pool_{1};
};

TEST_F(EngineHostTest, ManifestIsReadWithoutLoading) {
  const auto manifests = Manifests();
  ASSERT_EQ(manifests.size(), 1u);
  EXPECT_EQ(manifests[0].capabilities & (kCapChat | kCapVision), kCapChat + 0u);
  EXPECT_FALSE(manifests[0].needs_model_file);
  EXPECT_THAT(manifests[0].library, HasSubstr("echo"));
}

TEST_F(EngineHostTest, WrongAbiIsRefusedBeforeLoading) {
  Manifest manifest = Manifests().at(0);
  manifest.abi_major = 99;
  manifest.library = "/nonexistent";
  const auto api = LoadPlugin(manifest);
  ASSERT_FALSE(api);
  EXPECT_THAT(api.error().message, HasSubstr("ABI 99"));
}

TEST_F(EngineHostTest, AnswersWithOffsetsAndUsage) {
  auto host = Echo("");
  const Collected got = Run(*host, Ask("one two three", 5));
  EXPECT_TRUE(got.end.ok()) << got.end.ToString();
  EXPECT_EQ(got.Text(), "one two three one two");
  ASSERT_TRUE(std::holds_alternative<Accepted>(got.events.front()));
  EXPECT_EQ(std::get<Accepted>(got.events.front()).worker, "w1");
  EXPECT_EQ(std::get<Accepted>(got.events.front()).prompt_tokens, 3u);
  const auto& finished = std::get<Finished>(got.events.back());
  EXPECT_EQ(finished.reason, FinishReason::kLength);
  EXPECT_EQ(finished.usage.completion_tokens, 5u);
  uint64_t tokens = 0, bytes = 0;
  for (const Event& event : got.events) {
    if (const auto* delta = std::get_if<TextDelta>(&event)) {
      EXPECT_EQ(delta->end.tokens, ++tokens);
      EXPECT_EQ(delta->end.text_bytes, bytes += delta->text.size());
    }
  }
}

TEST_F(EngineHostTest, EndsByItselfWithoutMaxTokensAndAtZero) {
  auto host = Echo("");
  EXPECT_EQ(Run(*host, Ask("a b")).Text(), "a b");
  const Collected none = Run(*host, Ask("a b", 0));
  EXPECT_TRUE(none.end.ok());
  EXPECT_EQ(none.Text(), "");
  EXPECT_EQ(std::get<Finished>(none.events.back()).reason, FinishReason::kLength);
}

TEST_F(EngineHostTest, StopStringAcrossTokens) {
  auto host = Echo("");
  Request request = Ask("alpha beta gamma", 30);
  PayloadParts parts = **request.payload->parts();
  parts.sampling.stop = {"beta g"};
  request.payload = Payload::Of(parts);
  const Collected got = Run(*host, request);
  EXPECT_EQ(got.Text(), "alpha ");
  EXPECT_EQ(std::get<Finished>(got.events.back()).reason, FinishReason::kStop);
  EXPECT_EQ(std::get<Finished>(got.events.back()).stop_match, "beta g");
}

TEST_F(EngineHostTest, SeveralChoices) {
  auto host = Echo("");
  Request request = Ask("x y", 4);
  request.facts.choices = 3;
  const Collected got = Run(*host, request);
  for (uint32_t i = 0; i < 3; ++i) EXPECT_EQ(got.Text(i), "x y x y");
}

TEST_F(EngineHostTest, RefusalsComeAsTheEnd) {
  auto host = Echo(R"("refuse": true)");
  const Collected got = Run(*host, Ask("x"));
  EXPECT_EQ(got.end.code, Code::kResourceExhausted);
  EXPECT_EQ(got.end.reason, "overloaded");
  EXPECT_TRUE(got.end.retryable);
  EXPECT_TRUE(got.events.empty());
}

TEST_F(EngineHostTest, FailsMidwayAfterWhatWasProduced) {
  auto host = Echo(R"("fail_after": 2)");
  const Collected got = Run(*host, Ask("a b c", 9));
  EXPECT_EQ(got.Text(), "a b");
  EXPECT_EQ(got.end.code, Code::kUnavailable);
}

TEST_F(EngineHostTest, WhatItCannotDoIsRefused) {
  auto host = Echo("");
  Request request = Ask("a");
  request.facts.needs = kCapVision;
  EXPECT_EQ(Run(*host, request).end.code, Code::kUnimplemented);
}

TEST_F(EngineHostTest, GoesOnWhereAnotherOneWasCut) {
  auto host = Echo("");
  Request request = Ask("a b c", 5);
  request.facts.resume.choices = {{{1, 2}, {2, 3, 0, 0}}};
  const Collected got = Run(*host, request);
  EXPECT_TRUE(got.end.ok()) << got.end.message;
  EXPECT_EQ(got.Text(), " c a b");
  EXPECT_EQ(std::get<Finished>(got.events.back()).usage.completion_tokens, 5u);
  request.facts.resume.choices = {{{3}, {}}};
  EXPECT_EQ(Run(*host, request).end.reason, "cannot_resume");
  request.facts.resume.choices = {{}, {}};
  EXPECT_EQ(Run(*host, request).end.reason, "cannot_resume");
}

TEST_F(EngineHostTest, LoadingTellsItsProgressAndCanBeStopped) {
  std::vector<double> seen;
  auto host = EngineHost::Load(Manifests().at(0), R"({"model":{"load_ms":5}})", "w",
                               [&](double fraction, std::string_view) {
                                 seen.push_back(fraction);
                                 return true;
                               });
  ASSERT_TRUE(host);
  EXPECT_GE(seen.size(), 5u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  auto stopped = EngineHost::Load(Manifests().at(0), R"({"model":{"load_ms":5}})", "w",
                                  [](double, std::string_view) { return false; });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, Code::kCancelled);
}

TEST_F(EngineHostTest, WrongOptionNamesIt) {
  auto host = EngineHost::Load(Manifests().at(0), R"({"model":{"itl_ms":"soon"}})", "w", {});
  ASSERT_FALSE(host);
  EXPECT_THAT(host.error().message, HasSubstr("itl_ms"));
}

TEST_F(EngineHostTest, AReaderThatDoesNotPullIsNotProducedFor) {
  auto host = Echo("");
  EventStream stream = host->Infer(Ask("w", 100'000), Here());
  // The engine stops at its credit; only then may the rest be dropped and counted.
  Collected other = Run(*host, Ask("x", 1));  // the engine has made steps since
  ASSERT_TRUE(other.end.ok());
  size_t got = 0;
  pool_.RunBlocking([](EventSource& s, size_t& n) -> Task<> {
    const NextResult first = co_await s.Next(kNever);
    n = first.events.size();
  }(*stream, got));
  EXPECT_LE(got, 129u);  // Accepted and the credit
  stream.reset();
  host->Drain(kNever);
}

TEST_F(EngineHostTest, AnEngineThatHangsLosesItsRequests) {
  auto host = Echo(R"("hang_after": 1)");
  EventStream stream = host->Infer(Ask("w", 10), Here());
  pool_.RunBlocking([](EventSource& s) -> Task<> {
    for (bool delta = false; !delta;) {
      const NextResult next = co_await s.Next(kNever);
      for (const Event& event : next.events) delta |= IsDelta(event);
    }
  }(*stream));
  const TimePoint now = Clock::now();
  host->Watch(now);
  host->Watch(now + Millis(59'999));
  EXPECT_FALSE(host->stalled());
  host->Watch(now + Millis(60'000));
  Collected got;
  pool_.RunBlocking(Collect(*stream, got));
  EXPECT_EQ(got.end.reason, "engine_stalled");
  EXPECT_TRUE(got.end.retryable);
  EXPECT_EQ(Run(*host, Ask("w", 0)).end.reason, "engine_stalled");
  // What was cancelled there ends after all: it moves.
  while (host->stalled()) host->Watch(now + Millis(60'001));
  EXPECT_TRUE(Run(*host, Ask("w", 0)).end.ok());
}

TEST_F(EngineHostTest, WhoWaitsForAReaderDoesNotHang) {
  auto host = Echo("");
  EventStream stream = host->Infer(Ask("w", 100'000), Here());
  while (host->paused() == 0) std::this_thread::yield();
  const TimePoint now = Clock::now();
  host->Watch(now);
  host->Watch(now + Millis(600'000));
  EXPECT_FALSE(host->stalled());
}

TEST_F(EngineHostTest, DroppingCancelsAndDrainReturns) {
  auto host = Echo(R"("hang_after": 1)");
  EventStream stream = host->Infer(Ask("w", 10), Here());
  EXPECT_EQ(host->load().running, 1u);
  stream.reset();
  host->Drain(kNever);  // returns: the dropped request is forgotten
  while (host->load().running > 0) std::this_thread::yield();
}

TEST_F(EngineHostTest, DrainCancelsWhatDoesNotEnd) {
  auto host = Echo(R"("hang_after": 1)");
  Collected got;
  EventStream stream = host->Infer(Ask("w", 10), Here());
  host->Drain(Clock::now());
  pool_.RunBlocking(Collect(*stream, got));
  EXPECT_EQ(got.end.reason, "draining");
  EXPECT_EQ(host->Infer(Ask("late"), Here()) == nullptr, false);
}

}  // namespace
}  // namespace cyllm
