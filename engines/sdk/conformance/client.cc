#include "sdk/conformance/client.h"

#include <chrono>
#include <cmath>
#include <memory>
#include <utility>

namespace cyllm::conformance {

namespace {

constexpr std::chrono::seconds kPatience(60);

// A copy of `value` in memory of exactly `size` bytes: reads past it are caught by AddressSanitizer.
template <class T>
std::unique_ptr<char[]> Sized(T value, size_t size) {
  value.size = size;
  std::unique_ptr<char[]> memory(new char[size]);
  std::memset(memory.get(), 0xEE, size);
  std::memcpy(memory.get(), &value, std::min(size, sizeof value));
  return memory;
}

cyllm_sampling Greedy() {
  cyllm_sampling s{};
  s.temperature = 0;
  s.top_p = s.min_p = s.repetition_penalty = s.presence_penalty = s.frequency_penalty = std::nan("");
  s.top_k = INT32_MIN;
  return s;
}

}  // namespace

bool IsUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80             ? 1
                          : (lead & 0xE0) == 0xC0 ? 2
                          : (lead & 0xF0) == 0xE0 ? 3
                          : (lead & 0xF8) == 0xF0 ? 4
                                                  : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (size_t k = 1; k < length; ++k)
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    i += length;
  }
  return true;
}

Client::Client(const cyllm_engine_api* api, const std::string& config_json) : api_(api) {
  const cyllm_callbacks callbacks = {sizeof callbacks, this, OnEvents};
  cyllm_error error{};
  error.size = sizeof error;
  engine_ = api_->create(sdk::Str(config_json), &callbacks, nullptr, nullptr, &error);
  if (!engine_) Fault(std::string("create failed: ") + error.message);
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
    for (uint32_t i = 0; i < ask.resume.size(); ++i) {  // both parts together are looked at
      Choice& choice = answers_[id].choices[i];
      choice.tokens = ask.resume[i].tokens;
      choice.before = choice.end = ask.resume[i].end;
    }
  }
  std::vector<cyllm_resume_choice> resume;
  for (const Resumed& r : ask.resume)
    resume.push_back({r.tokens.data(), r.tokens.size(), r.end.text_bytes, r.end.reasoning_bytes,
                      r.end.tool_argument_bytes});
  std::vector<cyllm_input> inputs;
  for (const std::string& text : ask.inputs)
    inputs.push_back({sizeof(cyllm_input), sdk::Str(text), nullptr, 0});
  std::vector<cyllm_str> stops;
  for (const std::string& stop : ask.stop) stops.push_back(sdk::Str(stop));
  cyllm_sampling sampling = Greedy();
  sampling.stop = stops.data();
  sampling.n_stop = stops.size();
  sampling.logprobs = ask.logprobs;
  const auto sized_sampling = Sized(sampling, ask.sampling_size);

  cyllm_request request{};
  request.id = id;
  request.kind = ask.kind;
  request.model = sdk::Str("m");
  request.messages_json = sdk::Str(ask.messages);
  request.prompt = sdk::Str(ask.prompt);
  request.tools_json = sdk::Str(ask.tools);
  request.tool_choice_json = sdk::Str(ask.tool_choice);
  request.response_format_json = sdk::Str(ask.response_format);
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
  request.sampling = reinterpret_cast<const cyllm_sampling*>(sized_sampling.get());
  const auto sized_request = Sized(request, ask.request_size);

  cyllm_error error{};
  error.size = sizeof error;
  const int32_t code =
      api_->submit(engine_, reinterpret_cast<const cyllm_request*>(sized_request.get()), &error);
  std::lock_guard lock(mutex_);
  Answer& answer = answers_[id];
  answer.refused = code;
  if (code != CYLLM_OK) {
    answer.message = error.message;
    if (error.code != code) Fault("a refusal's error has another code than submit returned");
    if (answer.message.empty()) Fault("a refusal without a message");
    if (answer.ends > 0 || answer.accepted) Fault("a refused request had events");
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
    if (answer.refused == CYLLM_OK && answer.ends == 0) Fault("destroy returned without END of a request");
}

void Client::OnDelta(std::function<void(uint64_t id)> f) {
  std::lock_guard lock(mutex_);
  on_delta_ = std::move(f);
}

Answer Client::Wait(uint64_t id) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kPatience,
                    [&] { return answers_[id].ends > 0 || answers_[id].refused != CYLLM_OK; });
  return answers_[id];
}

Answer Client::Peek(uint64_t id) {
  std::lock_guard lock(mutex_);
  return answers_[id];
}

std::vector<std::string> Client::faults() {
  std::lock_guard lock(mutex_);
  return faults_;
}

void Client::Fault(std::string what) {
  if (faults_.size() < 20) faults_.push_back(std::move(what));
}

void Client::OnEvents(void* self, const cyllm_event* events, size_t n) {
  auto* client = static_cast<Client*>(self);
  std::function<void(uint64_t)> on_delta;
  std::vector<uint64_t> deltas;
  {
    std::lock_guard lock(client->mutex_);
    if (std::exchange(client->in_callback_, true)) client->Fault("callbacks overlap");
    if (client->destroyed_) client->Fault("an event after destroy");
    if (n == 0) client->Fault("a callback without events");
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
  if (it == answers_.end()) return Fault("an event of an unknown request");
  Answer& answer = it->second;
  if (answer.refused != CYLLM_OK) Fault("an event of a refused request");
  if (answer.ends > 0) Fault("an event after END");
  switch (event.type) {
    case CYLLM_EVENT_ACCEPTED:
      if (std::exchange(answer.accepted, true)) Fault("ACCEPTED twice");
      return;
    case CYLLM_EVENT_TEXT:
    case CYLLM_EVENT_REASONING:
    case CYLLM_EVENT_TOOL_CALL:
      return LookAtDelta(answer, event);
    case CYLLM_EVENT_FINISHED: {
      if (!answer.accepted) Fault("FINISHED before ACCEPTED");
      Choice& choice = answer.choices[event.choice];
      if (++choice.finished > 1) Fault("FINISHED twice for a choice");
      choice.reason = event.finish_reason;
      choice.completion_tokens = event.completion_tokens;
      if (event.finish_reason > CYLLM_FINISH_CONTENT_FILTER) Fault("unknown finish reason");
      const uint64_t told = choice.end.tokens;  // the token that ended it counts, and is not told
      if (kinds_[event.id] < CYLLM_KIND_EMBED &&
          (event.completion_tokens < told || event.completion_tokens > told + 1))
        Fault("completion_tokens differ from the offsets");
      return;
    }
    case CYLLM_EVENT_VALUES:
      return LookAtValues(answer, event);
    case CYLLM_EVENT_END:
      return LookAtEnd(answer, event);
    default:
      Fault("unknown event type");
  }
}

void Client::LookAtDelta(Answer& answer, const cyllm_event& event) {
  if (!answer.accepted) Fault("a delta before ACCEPTED");
  if (++answer.deltas > answer.credit) Fault("a delta without credit");
  Choice& choice = answer.choices[event.choice];
  if (choice.finished) Fault("a delta after FINISHED");
  const std::string_view text = sdk::View(event.text);
  if (!IsUtf8(text)) Fault("a delta that splits a code point");
  if (event.type == CYLLM_EVENT_TEXT) {
    choice.text += text;
    if (event.end.text_bytes != choice.text.size() + choice.before.text_bytes)
      Fault("text_bytes is not the length of the text so far");
  }
  if (event.type == CYLLM_EVENT_REASONING) {
    choice.reasoning += text;
    if (event.end.reasoning_bytes != choice.reasoning.size() + choice.before.reasoning_bytes)
      Fault("reasoning_bytes is not the length of the thoughts so far");
  }
  if (event.type == CYLLM_EVENT_TOOL_CALL) LookAtCall(choice, event);
  if (event.end.tokens != choice.end.tokens + event.n_token_ids) Fault("offsets do not count the token ids");
  choice.end = event.end;
  if (event.n_token_ids > 0 && !event.token_ids) return Fault("token ids are missing");
  if (event.n_token_ids > 0)
    choice.tokens.insert(choice.tokens.end(), event.token_ids, event.token_ids + event.n_token_ids);
  steps_[event.id].push_back(answer.choices);
  if (logprobs_[event.id] && event.type == CYLLM_EVENT_TEXT && event.n_logprobs != event.n_token_ids)
    Fault("logprobs were asked for and are not one per token");
}

void Client::LookAtCall(Choice& choice, const cyllm_event& event) {
  const std::string_view name = sdk::View(event.tool_name);
  if (event.tool_index > choice.calls.size()) return Fault("a call before the one before it");
  if (event.tool_index == choice.calls.size()) {
    if (choice.before.tokens == 0 && (name.empty() || sdk::View(event.tool_id).empty()))
      Fault("a call that does not begin with its id and name");
    choice.calls.push_back({std::string(sdk::View(event.tool_id)), std::string(name), {}});
  } else if (!name.empty()) {
    Fault("a call's name twice");
  }
  choice.calls[event.tool_index].arguments += sdk::View(event.text);
  uint64_t bytes = choice.before.tool_argument_bytes;
  for (const Call& call : choice.calls) bytes += call.arguments.size();
  if (event.end.tool_argument_bytes != bytes)
    Fault("tool_argument_bytes is not the length of the arguments so far");
}

void Client::LookAtValues(Answer& answer, const cyllm_event& event) {
  if (!answer.accepted) Fault("values before ACCEPTED");
  if (++answer.deltas > answer.credit) Fault("values without credit");
  if (event.choice != answer.values.size()) Fault("values that are not of the next input");
  if (event.n_values == 0 || !event.values) return Fault("values without any");
  answer.values.emplace_back(event.values, event.values + event.n_values);
}

std::vector<std::map<uint32_t, Choice>> Client::Steps(uint64_t id) {
  std::lock_guard lock(mutex_);
  return steps_[id];
}

void Client::LookAtEnd(Answer& answer, const cyllm_event& event) {
  ++answer.ends;
  if (!event.error) {
    if (!answer.accepted) Fault("END without an error before ACCEPTED");
    for (const auto& [index, choice] : answer.choices)
      if (!choice.finished) Fault("END without an error, and a choice is not FINISHED");
    return;
  }
  const cyllm_error error = sdk::Read(event.error);
  answer.code = error.code;
  answer.message = error.message;
  if (error.code == CYLLM_OK) Fault("an END error with code OK");
  if (answer.message.empty()) Fault("an END error without a message");
}

}  // namespace cyllm::conformance
