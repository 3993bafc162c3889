#include "shout.h"

#include <algorithm>
#include <cctype>
#include <cyllm/json.hpp>
#include <optional>
#include <sstream>

namespace shout {

namespace sdk = cyllm::sdk;
using sdk::Json;

namespace {

constexpr uint32_t kMaxChoices = 64;

// What is to be repeated, or nothing (with `why`).
std::optional<std::string> TextOf(const cyllm_request& in, std::string* why) {
  if (in.kind == CYLLM_KIND_TEXT) return std::string(sdk::View(in.prompt));
  const std::optional<Json> parsed = sdk::JsonReader::Read(sdk::View(in.messages_json));
  if (!parsed || !parsed->is(Json::Type::kArray) || parsed->items.empty()) {
    *why = "messages must be a list, and not an empty one";
    return std::nullopt;
  }
  const Json* content = parsed->items.back().Find("content");
  if (!content || !content->is(Json::Type::kString)) {
    *why = "the last message has no text";
    return std::nullopt;
  }
  return content->string;
}

std::vector<std::string> Shouted(const std::string& text) {
  std::vector<std::string> words;
  std::istringstream in(text);
  for (std::string word; in >> word;) {
    for (char& c : word) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    words.push_back(words.empty() ? word : " " + word);
  }
  return words;
}

}  // namespace

cyllm_event& Step::Add(uint64_t id, uint32_t type, uint32_t choice) {
  return events_.emplace_back(sdk::MakeEvent(id, type, choice));
}
cyllm_str Step::Keep(std::string text) { return sdk::Str(texts_.emplace_back(std::move(text))); }
const int32_t* Step::Keep(int32_t token) { return &tokens_.emplace_back(token); }
const cyllm_error* Step::KeepError(int32_t code, std::string_view message) {
  cyllm_error& error = errors_.emplace_back();
  error.size = sizeof error;
  sdk::Fail(&error, code, message);
  return &error;
}

Engine::Engine(Options options, const cyllm_callbacks& callbacks)
    : options_(options), callbacks_(callbacks), thread_([this] { Run(); }) {}

Engine::~Engine() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    for (auto& [id, request] : requests_) request.cancelled = true;
  }
  changed_.notify_one();
  thread_.join();
}

int32_t Engine::Submit(const cyllm_request& in, cyllm_error* error) {
  if (in.kind != CYLLM_KIND_CHAT && in.kind != CYLLM_KIND_TEXT)
    return sdk::Fail(error, CYLLM_UNIMPLEMENTED, "shout answers chats and texts", "unsupported");
  if (in.n == 0 || in.n > kMaxChoices)
    return sdk::Fail(error, CYLLM_INVALID_ARGUMENT, "n must be from 1 to 64", {}, "n");
  std::string why;
  const std::optional<std::string> text = TextOf(in, &why);
  if (!text) return sdk::Fail(error, CYLLM_INVALID_ARGUMENT, why, {}, "messages");

  Request request;
  request.id = in.id;
  request.words = Shouted(*text);
  request.max_tokens = in.max_tokens;
  request.credit = in.credit;
  const cyllm_sampling sampling = sdk::Read(in.sampling);
  std::vector<std::string> stops;
  for (size_t i = 0; i < sampling.n_stop; ++i) stops.emplace_back(sdk::View(sampling.stop[i]));
  for (uint32_t i = 0; i < in.n; ++i) request.choices.emplace_back(stops);
  {
    std::lock_guard lock(mutex_);
    if (draining_ || stopping_)
      return sdk::Fail(error, CYLLM_UNAVAILABLE, "the model is being unloaded", "draining", {}, true);
    if (requests_.size() >= options_.max_waiting)
      return sdk::Fail(error, CYLLM_RESOURCE_EXHAUSTED, "too many requests", "overloaded", {}, true);
    requests_.emplace(in.id, std::move(request));
  }
  changed_.notify_one();
  return CYLLM_OK;
}

void Engine::Cancel(uint64_t id) {
  {
    std::lock_guard lock(mutex_);
    if (const auto it = requests_.find(id); it != requests_.end()) it->second.cancelled = true;
  }
  changed_.notify_one();
}

void Engine::Credit(uint64_t id, uint32_t events) {
  {
    std::lock_guard lock(mutex_);
    if (const auto it = requests_.find(id); it != requests_.end()) it->second.credit += events;
  }
  changed_.notify_one();
}

uint32_t Engine::live() {
  std::lock_guard lock(mutex_);
  return static_cast<uint32_t>(requests_.size());
}

void Engine::Drain() {
  std::unique_lock lock(mutex_);
  draining_ = true;
  idle_.wait(lock, [this] { return requests_.empty(); });
}

void Engine::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto some = [this] {
      return std::any_of(requests_.begin(), requests_.end(), [](const auto& r) { return CanGoOn(r.second); });
    };
    changed_.wait(lock, [&] { return stopping_ || some(); });
    if (stopping_ && requests_.empty()) return;
    Step step;
    std::vector<uint64_t> ended;
    for (auto& [id, request] : requests_)
      if (CanGoOn(request) && Advance(request, step)) ended.push_back(id);
    // Unlocked: the host may cancel and give credit from inside the callback.
    lock.unlock();
    callbacks_.events(callbacks_.ctx, step.events().data(), step.events().size());
    lock.lock();
    for (const uint64_t id : ended) requests_.erase(id);
    if (requests_.empty()) idle_.notify_all();
  }
}

bool Engine::CanGoOn(const Request& request) {
  return request.cancelled || !request.accepted || request.credit > 0 || request.max_tokens == 0 ||
         request.words.empty();
}

// One token of each choice, as far as credit goes; true when the request has ended.
bool Engine::Advance(Request& request, Step& step) {
  const auto tell_prompt = [&](cyllm_event& event) {
    event.prompt_tokens = static_cast<uint32_t>(request.words.size());
  };
  if (request.cancelled) {
    step.Add(request.id, CYLLM_EVENT_END).error = step.KeepError(CYLLM_CANCELLED, "cancelled");
    return true;
  }
  if (!request.accepted) {
    request.accepted = true;
    tell_prompt(step.Add(request.id, CYLLM_EVENT_ACCEPTED));
  }
  for (uint32_t i = 0; i < request.choices.size(); ++i) {
    Request::Choice& choice = request.choices[i];
    if (choice.finished) continue;
    const bool cut = choice.end.tokens >= request.max_tokens;
    if (!cut && choice.end.tokens < request.words.size()) {
      if (request.credit == 0) continue;
      Produce(request, i, step);
    }
    const bool complete = choice.end.tokens >= request.words.size();
    if (!choice.stop.matched() && !complete && choice.end.tokens < request.max_tokens) continue;
    choice.finished = true;
    cyllm_event& event = step.Add(request.id, CYLLM_EVENT_FINISHED, i);
    tell_prompt(event);
    event.completion_tokens = static_cast<uint32_t>(choice.end.tokens);
    event.end = choice.end;
    event.finish_reason = choice.stop.matched() || (complete && request.max_tokens != 0)
                              ? CYLLM_FINISH_STOP
                              : CYLLM_FINISH_LENGTH;
    if (choice.stop.matched()) event.stop_match = step.Keep(*choice.stop.matched());
  }
  if (!std::ranges::all_of(request.choices, &Request::Choice::finished)) return false;
  step.Add(request.id, CYLLM_EVENT_END);
  return true;
}

void Engine::Produce(Request& request, uint32_t index, Step& step) {
  Request::Choice& choice = request.choices[index];
  const auto token = static_cast<int32_t>(choice.end.tokens);
  std::string text = choice.stop.Push(request.words[choice.end.tokens]);
  ++choice.end.tokens;
  const bool last = choice.end.tokens == request.words.size() || choice.end.tokens == request.max_tokens;
  if (last && !choice.stop.matched()) text += choice.stop.Flush();
  choice.end.text_bytes += text.size();
  --request.credit;
  cyllm_event& event = step.Add(request.id, CYLLM_EVENT_TEXT, index);
  event.text = step.Keep(std::move(text));
  event.token_ids = step.Keep(token);
  event.n_token_ids = 1;
  event.end = choice.end;
}

}  // namespace shout
