// Very many requests.
#include <chrono>

#include "worker/engine_check/checks.h"
#include "worker/engine_check/client.h"

namespace cyllm::engine_check {

namespace {

using std::chrono::steady_clock;

// "Never blocks", on a machine that others use too.
constexpr std::chrono::seconds kBlocked(1);

// Submits `n` times; the ids of those that were taken. Stops at the first refusal if told so.
std::vector<uint64_t> SubmitMany(Client& client, const Ask& ask, int n, bool until_refused, const Report& w) {
  std::vector<uint64_t> taken;
  for (int i = 0; i < n; ++i) {
    const auto begin = steady_clock::now();
    const uint64_t id = client.Submit(ask);
    if (steady_clock::now() - begin > kBlocked) {
      w("submit blocked for more than a second");
      return taken;
    }
    const Answer answer = client.Peek(id);
    if (answer.refused == CYLLM_OK) {
      taken.push_back(id);
      continue;
    }
    if (answer.refused != CYLLM_RESOURCE_EXHAUSTED) {
      w("overload answered with code " + std::to_string(answer.refused) + " in place of RESOURCE_EXHAUSTED");
      return taken;
    }
    if (!answer.retryable) w("a refusal for overload that is not retryable");
    if (until_refused) return taken;
  }
  return taken;
}

void TenThousandSubmits(const Subject& s, const Report& wrong) {
  With(s, wrong, [&](Client& client, const Report& w) {
    Ask ask;
    ask.max_tokens = 1;
    const auto taken = SubmitMany(client, ask, s.quick ? 1'000 : 10'000, false, w);
    size_t unanswered = 0;
    for (const uint64_t id : taken) {
      const Answer answer = client.Wait(id);
      if (answer.ends != 1 || answer.code != CYLLM_OK) ++unanswered;
      if (answer.ends == 0) break;
    }
    if (taken.empty()) w("none was taken");
    if (unanswered > 0) w(std::to_string(unanswered) + " that were taken were not answered well");
    if (client.Run({}).code != CYLLM_OK) w("broke the requests after them");
  });
}

void Overload(const Subject& s, const Report& wrong) {
  With(s, wrong, [&](Client& client, const Report& w) {
    Ask waits;
    waits.credit = 0;
    waits.max_tokens = 4;
    const auto taken = SubmitMany(client, waits, s.quick ? 1'000 : 10'000, true, w);
    for (const uint64_t id : taken) client.Cancel(id);
    for (const uint64_t id : taken) {
      if (client.Wait(id).ends == 1) continue;
      w("not one END after cancel");
      break;
    }
    if (client.Run({}).code != CYLLM_OK) w("takes nothing after them, although it is idle");
  });
}

}  // namespace

std::vector<Check> LoadChecks() {
  return {
      {"ten thousand submits", TenThousandSubmits},
      {"overload is a normal answer", Overload},
  };
}

}  // namespace cyllm::engine_check
