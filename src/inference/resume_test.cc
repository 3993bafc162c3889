#include "inference/resume.h"

#include <gtest/gtest.h>

#include "inference/fake_service.h"
#include "inference/fleet.h"

namespace cyllm {
namespace {

const Status kLost = Unavailable("the connection was lost", "connection_lost");

// The whole answer of `n` choices: deltas in turns, of every kind, some without text (a token that shows
// nothing yet), some with several tokens.
Batch WholeAnswer(uint32_t n) {
  Batch events;
  for (uint32_t c = 0; c < n; ++c) {
    Offsets end;
    int32_t token = 100 * static_cast<int32_t>(c + 1);
    const auto text = [&](const std::string& piece, int tokens) {
      TextDelta delta{c, piece, {}, {}, {}};
      for (int i = 0; i < tokens; ++i) {
        delta.token_ids.push_back(token);
        delta.logprobs.push_back({token++, piece, -0.5f, {}});
      }
      end.tokens += static_cast<uint64_t>(tokens);
      end.text_bytes += piece.size();
      delta.end = end;
      delta.chunk = "<" + piece + ">";
      events.push_back(delta);
    };
    ++end.tokens;
    end.reasoning_bytes = 5;
    events.push_back(ReasoningDelta{c, "think", {token++}, end});
    text("Hel", 1);
    text("", 1);
    text("lo wörld", 3);
    ++end.tokens;
    events.push_back(ToolCallDelta{c, 0, "call_0", "f", "", {token++}, end, "<call_0f>"});
    ++end.tokens;
    end.tool_argument_bytes += 7;
    events.push_back(ToolCallDelta{c, 0, "", "", "{\"a\":1}", {token++}, end, "<{\"a\":1}>"});
    text("!", 0);  // what the stop matcher had held back
    Finished finished;
    finished.choice = c;
    finished.usage = {9, 0, static_cast<uint32_t>(end.tokens), 0};
    finished.usage_chunk = "usage";
    events.push_back(finished);
  }
  return events;
}

uint32_t ChoiceOf(const Event& event) {
  return std::visit(
      [](const auto& e) -> uint32_t {
        if constexpr (requires { e.choice; }) return e.choice;
        return 0;
      },
      event);
}

// An engine that can resume: it has one answer, replays the tokens it is told and says the rest, in events
// that may start before what was delivered (`overlap`).
class HonestEngine : public InferenceService {
 public:
  struct Attempt {
    size_t events = SIZE_MAX;  // sent, then the end
    Status end;
    std::string digest = "d";
    bool refuse = false;  // ends without Accepted
    size_t skip = 0;      // events left out at the beginning: a broken engine
    uint32_t cached = 0;  // what Finished says
  };
  HonestEngine(uint32_t n, std::vector<Attempt> attempts) : n_(n), attempts_(std::move(attempts)) {}

  EventStream Infer(Request request, Context context) override {
    auto [pipe, stream] = EventPipe::Make(context.home, nullptr);
    const Attempt attempt = attempts_[std::min(seen.size(), attempts_.size() - 1)];
    seen.push_back(request.facts);
    if (attempt.refuse) {
      pipe->End(attempt.end);
      return std::move(stream);
    }
    pipe->Push(Accepted{9, seen.size() > 1 ? 8u : accepted_cached, "w" + std::to_string(seen.size()),
                        attempt.digest, resumable});
    size_t sent = 0, skipped = 0;
    for (Event& event : WholeAnswer(n_)) {
      if (!overlap && !Past(request.facts.resume, event)) continue;
      if (skipped < attempt.skip) {
        ++skipped;
        continue;
      }
      if (sent++ >= attempt.events) break;
      if (auto* finished = std::get_if<Finished>(&event)) finished->usage.cached_tokens = attempt.cached;
      pipe->Push(std::move(event));
    }
    pipe->End(attempt.end);
    return std::move(stream);
  }
  Snapshot Describe() const override { return {}; }

  std::vector<RequestFacts> seen;
  bool resumable = true;
  uint32_t accepted_cached = 0;  // what the first Accepted says
  bool overlap = false;

 private:
  static bool Past(const ResumeState& resume, Event& event) {
    if (resume.choices.empty() || std::holds_alternative<Finished>(event)) return true;
    const Offsets& have = resume.choices.at(ChoiceOf(event)).delivered;
    return std::visit(
        [&](auto& e) {
          if constexpr (requires { e.end; }) {
            return e.end.tokens > have.tokens || e.end.text_bytes > have.text_bytes ||
                   e.end.reasoning_bytes > have.reasoning_bytes ||
                   e.end.tool_argument_bytes > have.tool_argument_bytes;
          }
          return true;
        },
        event);
  }

  const uint32_t n_;
  const std::vector<Attempt> attempts_;
};

ResumeOptions Quick() {
  ResumeOptions options;
  options.backoff_min = options.backoff_max = Millis(0);
  options.seed = [] { return 77; };
  return options;
}

struct ResumeTest : testing::Test {
  Collected Run(std::shared_ptr<InferenceService> engine, uint32_t n = 1, ResumeOptions options = Quick(),
                Kind kind = Kind::kChat) {
    Resume resume(std::move(engine), std::move(options));
    Request request;
    request.facts.model = "m";
    request.facts.choices = n;
    request.facts.kind = kind;
    request.payload = Payload::Of({});
    Context context;
    context.home = pool.At(0);
    auto stream = resume.Infer(std::move(request), context);
    Collected out;
    pool.RunBlocking(Collect(*stream, out));
    return out;
  }

  // A chunk that goes on as it came says what its event says; the usage is nobody's once two have a part in
  // it.
  static void ExpectTrueChunks(const Batch& events, bool resumed) {
    const auto same = [](const std::string& chunk, const std::string& said) {
      EXPECT_TRUE(chunk.empty() || chunk == "<" + said + ">") << chunk << said;
    };
    for (const Event& event : events) {
      if (const auto* e = std::get_if<TextDelta>(&event)) same(e->chunk, e->text);
      if (const auto* t = std::get_if<ToolCallDelta>(&event)) same(t->chunk, t->id + t->name + t->arguments);
      if (const auto* f = std::get_if<Finished>(&event); f && resumed) EXPECT_EQ(f->usage_chunk, "");
    }
  }

  // As the client sees it: everything that was said of a choice.
  static std::string Said(const Batch& events, uint32_t choice) {
    std::string text, reasoning, tools;
    std::vector<int32_t> ids;
    size_t logprobs = 0, finished = 0;
    uint32_t completion = 0;
    for (const Event& event : events) {
      if (ChoiceOf(event) != choice) continue;
      if (const auto* e = std::get_if<TextDelta>(&event)) {
        text += e->text;
        ids.insert(ids.end(), e->token_ids.begin(), e->token_ids.end());
        logprobs += e->logprobs.size();
      } else if (const auto* r = std::get_if<ReasoningDelta>(&event)) {
        reasoning += r->text;
        ids.insert(ids.end(), r->token_ids.begin(), r->token_ids.end());
      } else if (const auto* t = std::get_if<ToolCallDelta>(&event)) {
        tools += t->id + t->name + t->arguments;
        ids.insert(ids.end(), t->token_ids.begin(), t->token_ids.end());
      } else if (const auto* f = std::get_if<Finished>(&event)) {
        ++finished;
        completion += f->usage.completion_tokens;
      }
    }
    std::string all = text + "|" + reasoning + "|" + tools + "|" + std::to_string(logprobs) + "|" +
                      std::to_string(finished) + "|" + std::to_string(completion) + "|";
    for (const int32_t id : ids) all += std::to_string(id) + ",";
    return all;
  }

  static size_t AcceptedIn(const Batch& events) {
    return static_cast<size_t>(std::count_if(
        events.begin(), events.end(), [](const Event& e) { return std::holds_alternative<Accepted>(e); }));
  }

  IoPool pool{1};
};

TEST_F(ResumeTest, WhereverItIsCutTheAnswerIsTheSame) {
  for (const bool overlap : {false, true}) {
    for (const uint32_t n : {1u, 3u}) {
      const Batch whole = WholeAnswer(n);
      for (size_t first = 0; first <= whole.size(); ++first) {
        for (size_t second = 0; second <= whole.size() - first; ++second) {
          auto engine = std::make_shared<HonestEngine>(
              n, std::vector<HonestEngine::Attempt>{{first, kLost}, {second, kLost}, {}});
          engine->overlap = overlap;
          const Collected got = Run(engine, n);
          ASSERT_TRUE(got.end.ok()) << first << "/" << second << got.end.ToString();
          EXPECT_EQ(AcceptedIn(got.events), 1u);
          ExpectTrueChunks(got.events, n == 1 && first < whole.size());
          for (uint32_t c = 0; c < n; ++c)
            ASSERT_EQ(Said(got.events, c), Said(whole, c)) << first << "/" << second << " choice " << c;
          for (const Event& event : got.events) {
            const auto* finished = std::get_if<Finished>(&event);
            if (!finished) continue;
            EXPECT_EQ(finished->usage.prompt_tokens, 9u);
            EXPECT_EQ(finished->usage.cached_tokens, 0u);
          }
        }
      }
    }
  }
}

TEST_F(ResumeTest, CachedTokensAreThoseOfTheFirstWhoKnows) {
  const auto cached = [&](uint32_t n, size_t first, uint32_t accepted) {
    HonestEngine::Attempt lost{first, kLost}, whole;
    lost.cached = 2;
    whole.cached = 5;
    auto engine = std::make_shared<HonestEngine>(n, std::vector{lost, whole});
    engine->accepted_cached = accepted;
    std::vector<uint32_t> out;
    for (const Event& event : Run(engine, n).events)
      if (const auto* finished = std::get_if<Finished>(&event)) out.push_back(finished->usage.cached_tokens);
    return out;
  };
  const size_t one = WholeAnswer(1).size();
  EXPECT_EQ(cached(1, 3, 0), (std::vector<uint32_t>{5}));
  EXPECT_EQ(cached(1, 3, 4), (std::vector<uint32_t>{4}));
  EXPECT_EQ(cached(2, one + 1, 0), (std::vector<uint32_t>{2, 2}));
}

TEST_F(ResumeTest, OverloadInMidStreamIsALossLikeOthers) {
  const Status full = Unavailable("preempted for good", "overloaded", Millis(1));
  auto engine =
      std::make_shared<HonestEngine>(1, std::vector<HonestEngine::Attempt>{{4, full}, {0, full}, {}});
  const Collected got = Run(engine);
  ASSERT_TRUE(got.end.ok()) << got.end.ToString();
  EXPECT_EQ(engine->seen.size(), 3u);
  EXPECT_EQ(Said(got.events, 0), Said(WholeAnswer(1), 0));
}

TEST_F(ResumeTest, TheNextAttemptKnowsWhereItStands) {
  auto engine =
      std::make_shared<HonestEngine>(1, std::vector<HonestEngine::Attempt>{{4, kLost}, {1, kLost}, {}});
  ASSERT_TRUE(Run(engine).end.ok());
  ASSERT_EQ(engine->seen.size(), 3u);
  EXPECT_EQ(engine->seen[0].seed, 77);
  EXPECT_EQ(engine->seen[2].seed, 77);  // fixed at the edge
  EXPECT_TRUE(engine->seen[0].resume.choices.empty());
  const ResumeState& second = engine->seen[1].resume;
  EXPECT_EQ(second.epoch, 1u);
  EXPECT_EQ(second.digest, "d");
  ASSERT_EQ(second.choices.size(), 1u);
  EXPECT_EQ(second.choices[0].token_ids, (std::vector<int32_t>{100, 101, 102, 103, 104, 105}));
  EXPECT_EQ(second.choices[0].delivered, (Offsets{6, 12, 5, 0}));
  EXPECT_EQ(engine->seen[1].avoid_workers, std::vector<std::string>{"w1"});
  EXPECT_EQ(engine->seen[2].resume.epoch, 2u);
  EXPECT_EQ(engine->seen[2].avoid_workers, (std::vector<std::string>{"w1", "w2"}));
}

TEST_F(ResumeTest, AnEndWithoutFinishedIsATruncation) {
  auto engine = std::make_shared<HonestEngine>(1, std::vector<HonestEngine::Attempt>{{4, Status::Ok()}, {}});
  const Collected got = Run(engine);
  EXPECT_TRUE(got.end.ok());
  EXPECT_EQ(Said(got.events, 0), Said(WholeAnswer(1), 0));
}

TEST_F(ResumeTest, WhoCannotResumeSaysSo) {
  auto engine = std::make_shared<HonestEngine>(1, std::vector<HonestEngine::Attempt>{{4, kLost}, {}});
  engine->resumable = false;
  EXPECT_EQ(Run(engine).end, kLost);
  EXPECT_EQ(engine->seen.size(), 1u);
}

TEST_F(ResumeTest, WithoutATokenNothingIsNeededToBeginAgain) {
  auto engine = std::make_shared<HonestEngine>(1, std::vector<HonestEngine::Attempt>{{0, kLost}, {}});
  engine->resumable = false;
  const Collected got = Run(engine);
  EXPECT_TRUE(got.end.ok());
  EXPECT_EQ(Said(got.events, 0), Said(WholeAnswer(1), 0));
  EXPECT_EQ(AcceptedIn(got.events), 1u);
}

TEST_F(ResumeTest, AnotherModelMayNotGoOn) {
  auto engine = std::make_shared<HonestEngine>(
      1, std::vector<HonestEngine::Attempt>{{4, kLost}, {SIZE_MAX, Status::Ok(), "other"}, {}});
  const Collected got = Run(engine);
  EXPECT_TRUE(got.end.ok());
  EXPECT_EQ(engine->seen.size(), 3u);
  EXPECT_EQ(Said(got.events, 0), Said(WholeAnswer(1), 0));
}

TEST_F(ResumeTest, AGapIsNeverPassedOn) {
  auto engine = std::make_shared<HonestEngine>(
      1, std::vector<HonestEngine::Attempt>{{2, kLost}, {SIZE_MAX, Status::Ok(), "d", false, 1}, {}});
  const Collected got = Run(engine);
  EXPECT_TRUE(got.end.ok());
  EXPECT_EQ(Said(got.events, 0), Said(WholeAnswer(1), 0));
}

TEST_F(ResumeTest, RefusalsAndClientErrorsPass) {
  for (const Status& end : {Unavailable("full", "overloaded"), InvalidArgument("no", "temperature")}) {
    auto engine =
        std::make_shared<HonestEngine>(1, std::vector<HonestEngine::Attempt>{{0, end, "d", true}, {}});
    EXPECT_EQ(Run(engine).end, end);
    EXPECT_EQ(engine->seen.size(), 1u);
  }
  const Status internal = MakeStatus(Code::kInternal, "the model is broken");
  auto engine = std::make_shared<HonestEngine>(1, std::vector<HonestEngine::Attempt>{{4, internal}, {}});
  EXPECT_EQ(Run(engine).end, internal);
}

TEST_F(ResumeTest, ARequestThatKillsItsWorkersIsGivenUp) {
  auto engine = std::make_shared<HonestEngine>(1, std::vector<HonestEngine::Attempt>{{4, kLost}, {0, kLost}});
  EXPECT_EQ(Run(engine).end, kLost);
  EXPECT_EQ(engine->seen.size(), 3u);  // the first, and two that brought nothing
}

struct DeadlyTest : ResumeTest {
  struct First : Picker {
    Decision Pick(const RequestFacts&, std::span<const WorkerView>, uint64_t) override { return {}; }
  };
  static FleetOptions Options() {
    return {.picker = std::make_shared<First>(), .return_patience = Millis(0)};
  }
  // A fleet of workers that all say this and are lost.
  std::shared_ptr<Fleet> Deadly(size_t workers, const Batch& events) {
    auto fleet = Fleet::Make(Options());
    for (size_t i = 0; i < workers; ++i) {
      Snapshot snapshot;
      snapshot.name = "w" + std::to_string(fakes.size());
      snapshot.models = {{"m", "echo"}};
      snapshot.ready = true;
      fakes.push_back(std::make_shared<FakeService>(std::vector<Script>{{events, kLost}}));
      fakes.back()->SetSnapshot(snapshot);
      fleet->Add(snapshot.name, fakes.back());
    }
    return fleet;
  }
  size_t killed() const {
    size_t sum = 0;
    for (const auto& fake : fakes) sum += fake->seen().size();
    return sum;
  }
  std::vector<std::shared_ptr<FakeService>> fakes;
};

TEST_F(DeadlyTest, InAFleetItTakesDownThreeAfterAccepted) {
  EXPECT_EQ(Run(Deadly(5, {Event(Accepted{3, 0, "w"})})).end, kLost);
  EXPECT_EQ(killed(), 3u);
}

TEST_F(DeadlyTest, TheFleetsOwnAttemptsCount) {
  auto fleet = Deadly(2, {Event(Accepted{3, 0, "w"})});
  EXPECT_EQ(Run(fleet).end, kLost);
  EXPECT_EQ(killed(), 3u) << "two in the first round, one in the second";
}

TEST_F(DeadlyTest, InAFleetItTakesDownThreeBeforeAccepted) {
  EXPECT_EQ(Run(Deadly(5, {})).end, kLost);
  EXPECT_EQ(killed(), 3u);
}

TEST_F(DeadlyTest, NorMoreThroughAnotherCoordinator) {
  auto front = Fleet::Make({.max_attempts = 2, .of_fleets = true, .return_patience = Millis(0)});
  front->Add("c1", Deadly(5, {}), /*live=*/true);
  front->Add("c2", Deadly(5, {}), /*live=*/true);
  EXPECT_EQ(Run(front).end, kLost);
  EXPECT_EQ(killed(), 3u);
}

TEST_F(DeadlyTest, ACoordinatorThatDiesIsNoWorker) {
  auto gone = std::make_shared<FakeService>(std::vector<Script>{
      {{}, kLost}, {{}, kLost}, {{}, kLost}, {{}, kLost}, {TextAnswer({"a"}), Status::Ok()}});
  Snapshot snapshot;
  snapshot.models = {{"m", "echo"}};
  snapshot.ready = true;
  gone->SetSnapshot(snapshot);
  auto front = Fleet::Make({.max_attempts = 1, .of_fleets = true, .return_patience = Millis(0)});
  front->Add("c1", gone);
  const Collected got = Run(front);
  EXPECT_TRUE(got.end.ok()) << got.end.ToString();
  EXPECT_EQ(got.Text(), "a");
}

TEST_F(ResumeTest, WaitsForSomebodyToTakeOverAndNoLonger) {
  const Status nobody = Unavailable("no worker is available", "no_worker");
  std::vector<HonestEngine::Attempt> attempts = {{4, kLost}};
  attempts.resize(9, {0, nobody, "d", true});
  attempts.push_back({});
  auto patient = std::make_shared<HonestEngine>(1, attempts);
  EXPECT_TRUE(Run(patient).end.ok());
  ResumeOptions none = Quick();
  none.patience = Millis(0);
  auto hasty = std::make_shared<HonestEngine>(1, attempts);
  EXPECT_EQ(Run(hasty, 1, none).end, kLost);
}

TEST_F(ResumeTest, ALongAnswerIsForgottenAndNotResumed) {
  ResumeOptions small = Quick();
  small.max_tokens = 3;
  auto engine = std::make_shared<HonestEngine>(1, std::vector<HonestEngine::Attempt>{{4, kLost}, {}});
  EXPECT_EQ(Run(engine, 1, small).end, kLost);
}

TEST_F(ResumeTest, VectorsAreMadeAgainAndToldOnce) {
  const auto vector = [](uint32_t input) { return Event(Values{input, {static_cast<float>(input)}}); };
  const Event accepted = Accepted{2, 0, "w", "d"};
  auto fake = std::make_shared<FakeService>(std::vector<Script>{
      {{accepted, vector(0)}, kLost}, {{accepted, vector(0), vector(1), Event(Finished{})}, Status::Ok()}});
  const Collected got = Run(fake, 1, Quick(), Kind::kEmbed);
  EXPECT_TRUE(got.end.ok());
  EXPECT_EQ(got.events.size(), 4u);
  EXPECT_TRUE(fake->seen()[1].request.facts.resume.choices.empty());
}

TEST_F(ResumeTest, WakeReachesTheWaitForAnotherWorker) {
  const Event delta = TextDelta{0, "a", {1}, {}, {1, 1}};
  auto fake = std::make_shared<FakeService>(std::vector<Script>{
      {{Event(Accepted{1, 0, "w", "d", true}), delta}, kLost}, {{}, Unavailable("none", "no_worker")}});
  ResumeOptions options = Quick();
  options.backoff_min = options.backoff_max = Millis(60'000);
  options.patience = Millis(600'000);
  Resume resume(fake, options);
  Context context;
  context.home = pool.At(0);
  Request request;
  request.payload = Payload::Of({});
  auto stream = resume.Infer(std::move(request), context);
  pool.RunBlocking([](EventSource& s) -> Task<> {
    EXPECT_EQ((co_await s.Next(kNever)).what, NextResult::What::kEvents);
    EXPECT_EQ((co_await s.Next(kPoll)).what, NextResult::What::kTimeout);
    s.Wake();
    EXPECT_EQ((co_await s.Next(kNever)).what, NextResult::What::kTimeout);
  }(*stream));
}

TEST_F(ResumeTest, DroppingCancels) {
  auto fake = std::make_shared<FakeService>(std::vector<Script>{{{Event(Accepted{})}, Status::Ok(), true}});
  Resume resume(fake, Quick());
  Context context;
  context.home = pool.At(0);
  Request request;
  request.payload = Payload::Of({});
  resume.Infer(std::move(request), context).reset();
  EXPECT_TRUE(fake->WaitForDrop(0));
}

}  // namespace
}  // namespace cyllm
