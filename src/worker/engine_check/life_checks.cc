#include <atomic>
#include <chrono>
#include <thread>

#include "worker/engine_check/checks.h"
#include "worker/engine_check/client.h"

namespace cyllm::engine_check {

namespace {

using std::chrono::steady_clock;

// Runs until it is cancelled: it has no credit to end with.
Ask Endless() {
  Ask ask;
  ask.credit = 0;
  ask.max_tokens = 1000;
  return ask;
}

void NoCreditNoDelta(const Subject& s, const Report& wrong) {
  With(s, wrong, [](Client& client, const Report& w) {
    const uint64_t id = client.Submit(Endless());
    if (client.Run({}).code != CYLLM_OK) w("a request beside it failed");
    if (client.Peek(id).deltas > 0) w("a delta without credit");
    if (client.Peek(id).ends > 0) w("ended without credit");
    client.Cancel(id);
    if (client.Wait(id).code != CYLLM_CANCELLED) w("cancel must end it with CANCELLED");
  });
}

void CreditIsWhatItRunsOn(const Subject& s, const Report& wrong) {
  With(s, wrong, [](Client& client, const Report& w) {
    Ask ask;
    ask.credit = 1;
    client.OnDelta([&client](uint64_t id) { client.Credit(id, 1); });  // from inside the callback
    const Answer answer = client.Run(ask);
    if (answer.ends != 1 || answer.code != CYLLM_OK) w("one credit at a time must be enough to finish");
  });
}

void UnknownIdsAreIgnored(const Subject& s, const Report& wrong) {
  With(s, wrong, [](Client& client, const Report& w) {
    for (const uint64_t id : {uint64_t{0}, uint64_t{12345}, UINT64_MAX}) {
      client.Cancel(id);
      client.Credit(id, 7);
    }
    const uint64_t id = client.Submit({});
    client.Wait(id);
    client.Cancel(id);  // after its end
    client.Credit(id, 7);
    client.Credit(id, 0);
    if (client.Run({}).code != CYLLM_OK) w("broke the requests after it");
  });
}

void CancelAtOnceAndTwice(const Subject& s, const Report& wrong) {
  With(s, wrong, [](Client& client, const Report& w) {
    for (int i = 0; i < 20; ++i) {
      const uint64_t id = client.Submit(Endless());
      client.Cancel(id);
      client.Cancel(id);
      const Answer answer = client.Wait(id);
      if (answer.ends != 1) w("not one END after cancel");
      if (answer.code != CYLLM_CANCELLED) w("cancel at once must end it with CANCELLED");
    }
  });
}

void CancelInsideTheCallback(const Subject& s, const Report& wrong) {
  With(s, wrong, [](Client& client, const Report& w) {
    client.OnDelta([&client](uint64_t id) { client.Cancel(id); });
    Ask ask;
    ask.max_tokens = CYLLM_MAX_TOKENS_UNSET;
    if (client.Run(ask).ends != 1) w("not one END after cancel");
  });
}

void ManyThreads(const Subject& s, const Report& wrong) {
  With(s, wrong, [](Client& client, const Report& w) {
    constexpr int kThreads = 4, kRequests = 12;
    std::atomic<int> bad{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::vector<uint64_t> ids;
        for (int i = 0; i < kRequests; ++i) {
          Ask ask;
          ask.credit = i % 4 == 3 ? 0 : 2;
          ids.push_back(client.Submit(ask));
        }
        for (int i = 0; i < kRequests; ++i) {
          if ((i + t) % 3 == 0) client.Cancel(ids[i]);
          client.Credit(ids[i], 100);
        }
        for (const uint64_t id : ids) {
          const Answer answer = client.Wait(id);
          if (answer.refused == CYLLM_OK && answer.ends != 1) ++bad;
          if (answer.refused != CYLLM_OK && answer.refused != CYLLM_RESOURCE_EXHAUSTED) ++bad;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    if (bad > 0) w(std::to_string(bad) + " requests came to no proper end");
  });
}

void DrainRefusesAndWaits(const Subject& s, const Report& wrong) {
  With(s, wrong, [&](Client& client, const Report& w) {
    const uint64_t running = client.Submit(Endless());
    std::atomic<bool> drained{false};
    std::thread drain([&] {
      client.Drain();
      drained = true;
    });
    const auto until = steady_clock::now() + s.patience;
    int32_t refused = CYLLM_OK;
    while (refused == CYLLM_OK && steady_clock::now() < until) {
      const uint64_t id = client.Submit(Endless());
      client.Cancel(id);
      refused = client.Wait(id).refused;
    }
    if (refused != CYLLM_UNAVAILABLE) w("submit during drain must be refused with UNAVAILABLE");
    if (drained) w("drain returned while a request runs");
    client.Cancel(running);
    drain.join();
    if (client.Wait(running).ends != 1) w("drain returned before END");
    if (client.Run({}).refused != CYLLM_UNAVAILABLE) w("submit after drain must be refused with UNAVAILABLE");
  });
}

std::string Words(size_t n) {
  std::string text;
  for (size_t i = 0; i < n; ++i) text += "word" + std::to_string(i % 97) + ' ';
  return R"([{"role":"user","content":")" + text + R"("}])";
}

// It may have ended well before the cancel arrived.
void EndedByCancel(const Answer& answer, const char* when, const Report& w) {
  if (answer.refused != CYLLM_OK) return;
  if (answer.ends != 1) return w(std::string("not one END after cancel ") + when);
  if (answer.code != CYLLM_OK && answer.code != CYLLM_CANCELLED)
    w(std::string("cancel ") + when + " ended it with another error: " + answer.message);
}

void CancelWhileThePromptIsRead(const Subject& s, const Report& wrong) {
  With(s, wrong, [](Client& client, const Report& w) {
    for (int round = 0; round < 4; ++round) {
      Ask ask;
      ask.messages = Words(100);  // long, and not too long for small contexts
      ask.max_tokens = 1000;
      ask.credit = 0;
      const uint64_t id = client.Submit(ask);
      if (round > 0) client.WaitForAccepted(id);
      if (round > 1) std::this_thread::sleep_for(std::chrono::milliseconds(round));  // wherever that is
      client.Cancel(id);
      EndedByCancel(client.Wait(id), "while the prompt is read", w);
    }
    if (client.Run({}).code != CYLLM_OK) w("broke the requests after it");
  });
}

void CancelAmidTheAnswer(const Subject& s, const Report& wrong) {
  With(s, wrong, [](Client& client, const Report& w) {
    Ask ask;
    ask.max_tokens = 1000;
    ask.credit = 2;  // it waits there
    const uint64_t id = client.Submit(ask);
    const Answer before = client.WaitForDeltas(id, 2);
    if (before.ends > 0) return w.skip("its answers are too short for it");
    if (before.deltas < 2) return w("no two deltas came");
    client.Cancel(id);
    const Answer after = client.Wait(id);
    EndedByCancel(after, "amid the answer", w);
    if (after.ends == 1 && after.code == CYLLM_OK) w("a cancelled request that waits for credit ended well");
    client.Cancel(id);
    client.Credit(id, 5);
    if (client.Run({}).code != CYLLM_OK) w("broke the requests after it");
  });
}

void ASlowReaderStopsOnlyItself(const Subject& s, const Report& wrong) {
  With(s, wrong, [](Client& client, const Report& w) {
    Ask slow;
    slow.max_tokens = 6;
    slow.credit = 1;
    const uint64_t id = client.Submit(slow);
    for (int i = 0; i < 3; ++i)
      if (client.Run({}).code != CYLLM_OK) w("a request beside it failed");
    if (client.Peek(id).deltas > 1) w("more deltas than its reader took");
    for (int i = 0; i < 50 && client.Peek(id).ends == 0; ++i) {
      client.Credit(id, 1);
      client.WaitForDeltas(id, static_cast<uint64_t>(i) + 2);
    }
    const Answer answer = client.Wait(id);
    if (answer.ends != 1 || answer.code != CYLLM_OK) w("its answer was not finished");
  });
}

void DestroyEndsWhatRuns(const Subject& s, const Report& wrong) {
  Client client(s);
  if (!client.created()) return wrong("create failed");
  std::vector<uint64_t> ids;
  for (int i = 0; i < 8; ++i) {
    Ask ask = Endless();
    ask.credit = i % 2 ? 0 : 100'000;
    ids.push_back(client.Submit(ask));
  }
  client.Destroy();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // what comes now comes too late
  for (const uint64_t id : ids)
    if (const Answer answer = client.Peek(id); answer.refused == CYLLM_OK && answer.ends != 1)
      wrong("not one END after destroy");
  for (const Fault& fault : client.faults()) wrong(fault.what);
}

void StatsReturnToZero(const Subject& s, const Report& wrong) {
  Client client(s);
  if (!client.created()) return wrong("create failed");
  const auto busy = [&] {
    cyllm_stats stats{};
    stats.size = sizeof stats;
    s.api->stats(client.engine(), &stats);
    return stats.running + stats.waiting;
  };
  const uint64_t id = client.Submit(Endless());
  if (busy() == 0) wrong("a submitted request is neither running nor waiting");
  client.Cancel(id);
  client.Wait(id);
  const auto until = steady_clock::now() + s.patience;
  while (busy() > 0 && steady_clock::now() < until) std::this_thread::yield();
  if (busy() > 0) wrong("an idle engine says it is busy");
}

}  // namespace

std::vector<Check> LifeChecks() {
  return {
      {"no credit, no delta", NoCreditNoDelta},
      {"credit is what it runs on", CreditIsWhatItRunsOn},
      {"unknown ids are ignored", UnknownIdsAreIgnored},
      {"cancel at once and twice", CancelAtOnceAndTwice},
      {"cancel while the prompt is read", CancelWhileThePromptIsRead},
      {"cancel amid the answer", CancelAmidTheAnswer},
      {"cancel inside the callback", CancelInsideTheCallback},
      {"a slow reader stops only itself", ASlowReaderStopsOnlyItself},
      {"many threads", ManyThreads},
      {"drain refuses and waits", DrainRefusesAndWaits},
      {"destroy ends what runs", DestroyEndsWhatRuns},
      {"stats return to zero", StatsReturnToZero},
  };
}

}  // namespace cyllm::engine_check
