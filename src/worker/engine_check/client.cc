#include "worker/engine_check/client.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <utility>

#include "worker/engine_check/lent.h"

namespace cyllm::engine_check {

namespace {

// Texts of one submit, which the engine may read until it returns.
class LentTexts {
 public:
  cyllm_str Lend(std::string_view text) {
    return text.empty() ? cyllm_str{nullptr, 0} : cyllm_str{texts_.emplace_back(text).data(), text.size()};
  }

 private:
  std::deque<Lent> texts_;
};

cyllm_sampling Greedy() {
  cyllm_sampling s{};
  s.temperature = 0;
  s.top_p = s.min_p = s.repetition_penalty = s.presence_penalty = s.frequency_penalty = std::nan("");
  s.top_k = INT32_MIN;
  return s;
}

}  // namespace

Client::Client(const Subject& subject) : api_(subject.api), patience_(subject.patience) {
  const Lent config(subject.config);
  const LentStruct<cyllm_callbacks> callbacks({0, this, OnEvents, nullptr}, sizeof(cyllm_callbacks));
  cyllm_error error{};
  error.size = sizeof error;
  engine_ = api_->create({config.data(), subject.config.size()}, callbacks.get(), nullptr, nullptr, &error);
  if (!engine_) {
    Wrong(Rule::kContent, std::string("create failed: ") + error.message);
    return;
  }
  cyllm_description d{};
  d.size = sizeof d;
  api_->describe(engine_, &d);
  capabilities_ = d.capabilities;
}

Client::~Client() { Destroy(); }

uint64_t Client::Submit(const Ask& ask) {
  uint64_t id = 0;
  {
    std::lock_guard lock(mutex_);
    id = next_id_++;
    answers_[id].credit = ask.credit;
    logprobs_[id] = ask.logprobs;
    kinds_[id] = ask.kind;
    record_[id] = ask.steps;
    for (uint32_t i = 0; i < ask.resume.size(); ++i) {  // both parts together are looked at
      Choice& choice = answers_[id].choices[i];
      choice.tokens = ask.resume[i].tokens;
      choice.before = choice.end = ask.resume[i].end;
    }
  }
  LentTexts texts;
  std::vector<cyllm_resume_choice> resume;
  for (const Resumed& r : ask.resume)
    resume.push_back({r.tokens.data(), r.tokens.size(), r.end.text_bytes, r.end.reasoning_bytes,
                      r.end.tool_argument_bytes});
  std::vector<cyllm_input> inputs;
  for (const std::string& text : ask.inputs)
    inputs.push_back({sizeof(cyllm_input), texts.Lend(text), nullptr, 0});
  std::vector<cyllm_str> stops;
  for (const std::string& stop : ask.stop) stops.push_back(texts.Lend(stop));
  cyllm_sampling sampling = Greedy();
  sampling.stop = stops.data();
  sampling.n_stop = stops.size();
  sampling.logprobs = ask.logprobs;

  cyllm_request request{};
  request.id = id;
  request.kind = ask.kind;
  request.model = texts.Lend("m");
  request.messages_json = texts.Lend(ask.messages);
  request.prompt = texts.Lend(ask.prompt);
  request.tools_json = texts.Lend(ask.tools);
  request.tool_choice_json = texts.Lend(ask.tool_choice);
  request.response_format_json = texts.Lend(ask.response_format);
  request.prompt_tokens = ask.tokens.data();
  request.n_prompt_tokens = ask.tokens.size();
  request.inputs = inputs.data();
  request.n_inputs = inputs.size();
  request.dimensions = ask.dimensions;
  request.resume = resume.empty() ? nullptr : resume.data();
  request.max_tokens = ask.max_tokens;
  request.n = ask.n;
  request.has_seed = 1;
  request.credit = ask.credit;
  static const int32_t kTokens[] = {1, 2, 3};
  if (ask.kind == CYLLM_KIND_CHAT && !(capabilities_ & CYLLM_CAP_CHAT)) {
    request.messages_json = {};
    request.kind = capabilities_ & CYLLM_CAP_TEXT ? CYLLM_KIND_TEXT : CYLLM_KIND_TOKENS;
    if (request.kind == CYLLM_KIND_TEXT) request.prompt = texts.Lend("one two three");
    if (request.kind == CYLLM_KIND_TOKENS) request.prompt_tokens = kTokens, request.n_prompt_tokens = 3;
  }
  if (ask.bend) ask.bend(request, sampling);
  const LentStruct<cyllm_sampling> lent_sampling(sampling, ask.sampling_size);
  request.sampling = lent_sampling.get();
  const LentStruct<cyllm_request> lent(request, ask.request_size);

  cyllm_error error{};
  error.size = sizeof error;
  const int32_t code = api_->submit(engine_, lent.get(), &error);
  std::lock_guard lock(mutex_);
  Answer& answer = answers_[id];
  answer.refused = code;
  if (code != CYLLM_OK) {
    answer.message = error.message;
    answer.retryable = error.retryable != 0;
    if (error.code != code) Wrong(Rule::kContent, "a refusal's error has another code than submit returned");
    if (answer.message.empty()) Wrong(Rule::kContent, "a refusal without a message");
    if (answer.ends > 0 || answer.accepted) Wrong(Rule::kEnd, "a refused request had events");
  }
  changed_.notify_all();
  return id;
}

void Client::Cancel(uint64_t id) { api_->cancel(engine_, id); }

void Client::Credit(uint64_t id, uint32_t events) {
  {
    std::lock_guard lock(mutex_);
    if (const auto it = answers_.find(id); it != answers_.end()) it->second.credit += events;
  }
  api_->credit(engine_, id, events);
}

void Client::Drain() { api_->drain(engine_); }

void Client::Destroy() {
  if (!engine_) return;
  api_->destroy(engine_);
  engine_ = nullptr;
  std::lock_guard lock(mutex_);
  destroyed_ = true;
  for (const auto& [id, answer] : answers_)
    if (answer.refused == CYLLM_OK && answer.ends == 0)
      Wrong(Rule::kEnd, "destroy returned without END of a request");
}

void Client::OnDelta(std::function<void(uint64_t id)> f) {
  std::lock_guard lock(mutex_);
  on_delta_ = std::move(f);
}

Answer Client::WaitFor(uint64_t id, const std::function<bool(const Answer&)>& enough) {
  std::unique_lock lock(mutex_);
  const Answer& answer = answers_[id];
  changed_.wait_for(lock, patience_,
                    [&] { return enough(answer) || answer.ends > 0 || answer.refused != CYLLM_OK; });
  return answer;
}

Answer Client::Wait(uint64_t id) {
  return WaitFor(id, [](const Answer&) { return false; });
}
Answer Client::WaitForDeltas(uint64_t id, uint64_t deltas) {
  return WaitFor(id, [deltas](const Answer& answer) { return answer.deltas >= deltas; });
}
Answer Client::WaitForAccepted(uint64_t id) {
  return WaitFor(id, [](const Answer& answer) { return answer.accepted; });
}

Answer Client::Peek(uint64_t id) {
  std::lock_guard lock(mutex_);
  return answers_[id];
}

std::vector<Fault> Client::faults() {
  std::lock_guard lock(mutex_);
  return faults_;
}

void Client::Wrong(Rule rule, std::string what) {
  if (std::ranges::find(faults_, what, &Fault::what) == faults_.end())
    faults_.push_back({rule, std::move(what)});
}

void Client::OnEvents(void* self, const cyllm_event* events, size_t n) {
  auto* client = static_cast<Client*>(self);
  std::function<void(uint64_t)> on_delta;
  std::vector<uint64_t> deltas;
  {
    std::lock_guard lock(client->mutex_);
    if (std::exchange(client->in_callback_, true)) client->Wrong(Rule::kCallbacks, "callbacks overlap");
    if (client->destroyed_) client->Wrong(Rule::kEnd, "an event after destroy");
    if (n == 0) client->Wrong(Rule::kCallbacks, "a callback without events");
    for (size_t i = 0; i < n; ++i) {
      const cyllm_event& event = sdk::At(events, i);
      client->Look(event);
      if ((event.type >= CYLLM_EVENT_TEXT && event.type <= CYLLM_EVENT_TOOL_CALL) ||
          event.type == CYLLM_EVENT_VALUES)
        deltas.push_back(event.id);
    }
    on_delta = client->on_delta_;
    client->changed_.notify_all();
  }
  // Unlocked: a second callback meanwhile is seen above.
  if (on_delta)
    for (const uint64_t id : deltas) on_delta(id);
  std::lock_guard lock(client->mutex_);
  client->in_callback_ = false;
}

void Client::Look(const cyllm_event& in) {
  const cyllm_event event = sdk::Read(&in);
  const auto it = answers_.find(event.id);
  if (it == answers_.end()) return Wrong(Rule::kEnd, "an event of an unknown request");
  Answer& answer = it->second;
  if (answer.refused != CYLLM_OK) Wrong(Rule::kEnd, "an event of a refused request");
  if (answer.ends > 0) Wrong(Rule::kEnd, "an event after END");
  switch (event.type) {
    case CYLLM_EVENT_ACCEPTED:
      if (std::exchange(answer.accepted, true)) Wrong(Rule::kOrder, "ACCEPTED twice");
      answer.prompt_tokens = event.prompt_tokens;
      answer.cached_tokens = event.cached_tokens;
      if (event.cached_tokens > event.prompt_tokens)
        Wrong(Rule::kUsage, "more cached_tokens than prompt_tokens");
      return;
    case CYLLM_EVENT_TEXT:
    case CYLLM_EVENT_REASONING:
    case CYLLM_EVENT_TOOL_CALL:
      return LookAtDelta(answer, event);
    case CYLLM_EVENT_FINISHED:
      return LookAtFinished(answer, event);
    case CYLLM_EVENT_VALUES:
      return LookAtValues(answer, event);
    case CYLLM_EVENT_END:
      return LookAtEnd(answer, event);
    default:
      Wrong(Rule::kOrder, "unknown event type");
  }
}

void Client::LookAtFinished(Answer& answer, const cyllm_event& event) {
  if (!answer.accepted) Wrong(Rule::kOrder, "FINISHED before ACCEPTED");
  Choice& choice = answer.choices[event.choice];
  if (++choice.finished > 1) Wrong(Rule::kOrder, "FINISHED twice for a choice");
  choice.reason = event.finish_reason;
  choice.completion_tokens = event.completion_tokens;
  if (event.finish_reason > CYLLM_FINISH_CONTENT_FILTER) Wrong(Rule::kContent, "unknown finish reason");
  if (event.prompt_tokens != answer.prompt_tokens)
    Wrong(Rule::kUsage, "prompt_tokens of FINISHED and ACCEPTED differ");
  if (event.cached_tokens > event.prompt_tokens) Wrong(Rule::kUsage, "more cached_tokens than prompt_tokens");
  if (event.reasoning_tokens > event.completion_tokens)
    Wrong(Rule::kUsage, "more reasoning_tokens than completion_tokens");
  const uint64_t told = choice.end.tokens;  // the token that ended it counts, and is not told
  if (kinds_[event.id] < CYLLM_KIND_EMBED &&
      (event.completion_tokens < told || event.completion_tokens > told + 1))
    Wrong(Rule::kUsage, "completion_tokens differ from the tokens of the deltas");
}

void Client::LookAtDelta(Answer& answer, const cyllm_event& event) {
  if (!answer.accepted) Wrong(Rule::kOrder, "a delta before ACCEPTED");
  if (++answer.deltas > answer.credit) Wrong(Rule::kCredit, "a delta without credit");
  Choice& choice = answer.choices[event.choice];
  if (choice.finished) Wrong(Rule::kOrder, "a delta after FINISHED");
  const std::string_view text = sdk::View(event.text);
  if (!sdk::IsUtf8(text)) Wrong(Rule::kContent, "a delta that splits a code point");
  if (event.type == CYLLM_EVENT_TEXT) {
    choice.text += text;
    if (event.end.text_bytes != choice.text.size() + choice.before.text_bytes)
      Wrong(Rule::kUsage, "text_bytes is not the length of the text so far");
  }
  if (event.type == CYLLM_EVENT_REASONING) {
    choice.reasoning += text;
    if (event.end.reasoning_bytes != choice.reasoning.size() + choice.before.reasoning_bytes)
      Wrong(Rule::kUsage, "reasoning_bytes is not the length of the thoughts so far");
  }
  if (event.type == CYLLM_EVENT_TOOL_CALL) LookAtCall(choice, event);
  if (event.end.tokens != choice.end.tokens + event.n_token_ids)
    Wrong(Rule::kUsage, "offsets do not count the token ids");
  choice.end = event.end;
  if (event.n_token_ids > 0 && !event.token_ids) return Wrong(Rule::kContent, "token ids are missing");
  if (event.n_token_ids > 0)
    choice.tokens.insert(choice.tokens.end(), event.token_ids, event.token_ids + event.n_token_ids);
  if (record_[event.id]) steps_[event.id].push_back(answer.choices);
  if (logprobs_[event.id] && event.type == CYLLM_EVENT_TEXT && event.n_logprobs != event.n_token_ids)
    Wrong(Rule::kContent, "logprobs were asked for and are not one per token");
}

void Client::LookAtCall(Choice& choice, const cyllm_event& event) {
  const std::string_view name = sdk::View(event.tool_name);
  if (event.tool_index > choice.calls.size()) return Wrong(Rule::kContent, "a call before the one before it");
  if (event.tool_index == choice.calls.size()) {
    if (choice.before.tokens == 0 && (name.empty() || sdk::View(event.tool_id).empty()))
      Wrong(Rule::kContent, "a call that does not begin with its id and name");
    choice.calls.push_back({std::string(sdk::View(event.tool_id)), std::string(name), {}});
  } else if (!name.empty()) {
    Wrong(Rule::kContent, "a call's name twice");
  }
  choice.calls[event.tool_index].arguments += sdk::View(event.text);
  uint64_t bytes = choice.before.tool_argument_bytes;
  for (const Call& call : choice.calls) bytes += call.arguments.size();
  if (event.end.tool_argument_bytes != bytes)
    Wrong(Rule::kUsage, "tool_argument_bytes is not the length of the arguments so far");
}

void Client::LookAtValues(Answer& answer, const cyllm_event& event) {
  if (!answer.accepted) Wrong(Rule::kOrder, "values before ACCEPTED");
  if (++answer.deltas > answer.credit) Wrong(Rule::kCredit, "values without credit");
  if (event.choice != answer.values.size()) Wrong(Rule::kOrder, "values that are not of the next input");
  if (event.n_values == 0 || !event.values) return Wrong(Rule::kContent, "values without any");
  answer.values.emplace_back(event.values, event.values + event.n_values);
}

std::vector<std::map<uint32_t, Choice>> Client::Steps(uint64_t id) {
  std::lock_guard lock(mutex_);
  return steps_[id];
}

void Client::LookAtEnd(Answer& answer, const cyllm_event& event) {
  ++answer.ends;
  if (!event.error) {
    if (!answer.accepted) Wrong(Rule::kOrder, "END without an error before ACCEPTED");
    for (const auto& [index, choice] : answer.choices)
      if (!choice.finished) Wrong(Rule::kOrder, "END without an error, and a choice is not FINISHED");
    return;
  }
  const cyllm_error error = sdk::Read(event.error);
  answer.code = error.code;
  answer.message = error.message;
  if (error.code == CYLLM_OK) Wrong(Rule::kContent, "an END error with code OK");
  if (answer.message.empty()) Wrong(Rule::kContent, "an END error without a message");
}

void With(const Subject& subject, const Report& wrong, const std::function<void(Client&, const Report&)>& f) {
  Client client(subject);
  if (client.created()) f(client, wrong);
  client.Destroy();
  for (const Fault& fault : client.faults()) wrong(fault.what);
}

void Where(const Subject& subject, const Report& wrong, uint64_t capability,
           const std::function<void(Client&, const Report&)>& f) {
  With(subject, wrong, [&](Client& client, const Report& w) {
    if (client.capabilities() & capability) return f(client, w);
    w.skip("not among its capabilities");
  });
}

}  // namespace cyllm::engine_check
