// The rules that hold for the events of every request, each told apart.
#include <chrono>
#include <thread>

#include "worker/engine_check/checks.h"
#include "worker/engine_check/client.h"

namespace cyllm::engine_check {

namespace {

// One, several and no tokens; several choices; a stop; a slow reader; one that is cancelled; several at once.
void AskThis(Client& client) {
  std::vector<uint64_t> ids;
  const auto ask = [&](const std::function<void(Ask&)>& change) {
    Ask a;
    change(a);
    ids.push_back(client.Submit(a));
  };
  ask([](Ask&) {});
  ask([](Ask& a) { a.max_tokens = 1; });
  ask([](Ask& a) { a.max_tokens = 0; });
  ask([](Ask& a) { a.n = 2; });
  ask([](Ask& a) { a.stop = {" "}; });
  ask([](Ask& a) { a.max_tokens = 24; });
  ask([](Ask& a) { a.credit = 1; });
  ask([](Ask& a) { a.credit = 0; });
  client.Wait(ids[0]);
  client.Cancel(ids[7]);
  ask([](Ask& a) { a.max_tokens = 24; });  // meanwhile the slow reader's could have said more
  for (const uint64_t id : ids)
    if (id != ids[6]) client.Wait(id);
  client.Credit(ids[6], 3);
  client.Credit(ids[6], 100);
  client.Wait(ids[6]);
}

void Look(const Subject& s, const Report& wrong, Rule rule) {
  Client client(s);
  if (!client.created()) return wrong("create failed");
  AskThis(client);
  client.Destroy();
  for (const Fault& fault : client.faults())
    if (fault.rule == rule) wrong(fault.what);
}

void Order(const Subject& s, const Report& wrong) { Look(s, wrong, Rule::kOrder); }
void Credit(const Subject& s, const Report& wrong) { Look(s, wrong, Rule::kCredit); }
void Usage(const Subject& s, const Report& wrong) { Look(s, wrong, Rule::kUsage); }
void Contents(const Subject& s, const Report& wrong) { Look(s, wrong, Rule::kContent); }

// A host that takes its time, so that a second callback meets the first.
void Callbacks(const Subject& s, const Report& wrong) {
  Client client(s);
  if (!client.created()) return wrong("create failed");
  client.OnDelta([](uint64_t) { std::this_thread::sleep_for(std::chrono::milliseconds(5)); });
  AskThis(client);
  client.Destroy();
  for (const Fault& fault : client.faults())
    if (fault.rule == Rule::kCallbacks) wrong(fault.what);
}

void Ends(const Subject& s, const Report& wrong) {
  Client client(s);
  if (!client.created()) return wrong("create failed");
  if (client.Run({}).ends == 0) return wrong("no END");  // the others would be waited for in vain
  AskThis(client);
  client.Destroy();
  for (const Fault& fault : client.faults())
    if (fault.rule == Rule::kEnd) wrong(fault.what);
}

}  // namespace

std::vector<Check> RuleChecks() {
  return {
      {"END comes once and last", Ends},
      {"events come in order", Order},
      {"usage and offsets add up", Usage},
      {"credit is obeyed", Credit},
      {"texts, ids and errors are well formed", Contents},
      {"callbacks are serial", Callbacks},
  };
}

}  // namespace cyllm::engine_check
