// One engine under test, and everything it says: the rules that hold for every event are checked as it comes.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "sdk/engine.hpp"
#include "worker/engine_check/checks.h"

namespace cyllm::engine_check {

// Where a choice stood.
struct Resumed {
  std::vector<int32_t> tokens;
  cyllm_offsets end{};
};

// A chat, where the engine has them; else a text, or else tokens.
struct Ask {
  uint32_t kind = CYLLM_KIND_CHAT;
  std::string messages = R"([{"role":"user","content":"one two three"}])";
  std::string prompt;
  uint32_t max_tokens = 6;
  uint32_t n = 1;
  uint32_t credit = 100'000;
  std::vector<std::string> stop;
  bool logprobs = false;
  std::string tools, tool_choice, response_format;
  std::vector<std::string> inputs;
  std::vector<int32_t> tokens;
  uint32_t dimensions = 0;
  std::vector<Resumed> resume;  // of each choice, or empty
  bool steps = false;           // Steps() will be asked for
  // Last changes to what is submitted.
  std::function<void(cyllm_request&, cyllm_sampling&)> bend;
  // As an older or a newer host would have compiled them.
  size_t request_size = sizeof(cyllm_request);
  size_t sampling_size = sizeof(cyllm_sampling);
};

struct Call {
  std::string id, name, arguments;
  bool operator==(const Call&) const = default;
};

struct Choice {
  std::string text, reasoning;
  std::vector<Call> calls;
  std::vector<int32_t> tokens;
  cyllm_offsets end{};
  cyllm_offsets before{};  // delivered by another engine
  uint32_t finished = 0;   // times
  uint32_t reason = 0;
  uint32_t completion_tokens = 0;
};

// What an engine can break in its events.
enum class Rule { kOrder, kEnd, kUsage, kCredit, kContent, kCallbacks };

struct Fault {
  Rule rule;
  std::string what;
};

struct Answer {
  int32_t refused = CYLLM_OK;  // submit's return
  bool retryable = false;      // of a refusal
  bool accepted = false;
  uint32_t prompt_tokens = 0, cached_tokens = 0;  // of ACCEPTED
  uint64_t credit = 0, deltas = 0;
  std::map<uint32_t, Choice> choices;
  std::vector<std::vector<float>> values;  // by input
  uint32_t ends = 0;
  int32_t code = CYLLM_OK;  // of the END
  std::string message;      // of the refusal or the END
};

// Thread-safe.
class Client {
 public:
  // Creates an engine; faults() tells why there is none afterwards.
  explicit Client(const Subject& subject);
  ~Client();  // Destroy()
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Its id. The answer says whether it was refused.
  uint64_t Submit(const Ask& ask);
  // What a request gave after each of its deltas, where its `steps` was set.
  std::vector<std::map<uint32_t, Choice>> Steps(uint64_t id);
  void Cancel(uint64_t id);
  void Credit(uint64_t id, uint32_t events);
  void Drain();
  void Destroy();  // idempotent

  // Called from inside the callback, for every delta.
  void OnDelta(std::function<void(uint64_t id)> f);

  // Blocks until the request has ended (or was refused), or the subject's patience is over.
  Answer Wait(uint64_t id);
  Answer Peek(uint64_t id);
  Answer Run(const Ask& ask) { return Wait(Submit(ask)); }
  // Blocks until the request has had so many deltas, or has ended, or patience is over.
  Answer WaitForDeltas(uint64_t id, uint64_t deltas);
  // The same for ACCEPTED.
  Answer WaitForAccepted(uint64_t id);

  uint64_t capabilities() const { return capabilities_; }
  bool created() const { return engine_ != nullptr; }
  cyllm_engine* engine() const { return engine_; }
  // What was against the rules so far, each thing once.
  std::vector<Fault> faults();

 private:
  static void OnEvents(void* self, const cyllm_event* events, size_t n);
  void Look(const cyllm_event& in);
  void LookAtDelta(Answer& answer, const cyllm_event& event);
  void LookAtCall(Choice& choice, const cyllm_event& event);
  void LookAtValues(Answer& answer, const cyllm_event& event);
  void LookAtEnd(Answer& answer, const cyllm_event& event);
  void LookAtFinished(Answer& answer, const cyllm_event& event);
  void Wrong(Rule rule, std::string what);
  Answer WaitFor(uint64_t id, const std::function<bool(const Answer&)>& enough);

  const cyllm_engine_api* const api_;
  const std::chrono::milliseconds patience_;
  uint64_t capabilities_ = 0;
  cyllm_engine* engine_ = nullptr;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, Answer> answers_;
  std::map<uint64_t, bool> logprobs_, record_;  // asked for
  std::map<uint64_t, std::vector<std::map<uint32_t, Choice>>> steps_;
  std::map<uint64_t, uint32_t> kinds_;
  std::vector<Fault> faults_;
  std::function<void(uint64_t)> on_delta_;
  uint64_t next_id_ = 1;
  bool in_callback_ = false, destroyed_ = false;
};

// Gives `f` an engine, and tells all that was against the rules until that engine was destroyed.
void With(const Subject& subject, const Report& wrong, const std::function<void(Client&, const Report&)>& f);
// The same where the engine has the capability; skipped where it has not.
void Where(const Subject& subject, const Report& wrong, uint64_t capability,
           const std::function<void(Client&, const Report&)>& f);

}  // namespace cyllm::engine_check
