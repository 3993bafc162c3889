#include "llama_cpp/engine.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "sdk/engine.hpp"

namespace cyllm::llama {

namespace {

cyllm_error MakeError(int32_t code, std::string_view message, std::string_view reason) {
  cyllm_error error{};
  error.size = sizeof error;
  sdk::Fail(&error, code, message, reason);
  return error;
}

TimePoint Now() { return std::chrono::steady_clock::now(); }

}  // namespace

Engine::Engine(Decoder& decoder, const Vocabulary& vocabulary, const ChatTemplate& chat, EngineLimits limits,
               const cyllm_callbacks& callbacks, AsideModel aside, Decoder* prompts)
    : decoder_(decoder),
      vocabulary_(vocabulary),
      chat_(chat),
      callbacks_(callbacks),
      max_requests_(decoder.max_running() + limits.max_waiting),
      cores_(decoder.threads()),
      lane_(prompts ? std::make_unique<PromptLane>(*prompts, cores_, Now, [this] { Land(); }) : nullptr),
      scheduler_(decoder, vocabulary,
                 {limits.prefill_chunk, ChunkBudget::Seconds(limits.target_itl_ms / 1000),
                  limits.prefix_caching, limits.speculation},
                 Now, lane_.get()),
      aside_(std::make_unique<Aside>(std::move(aside), vocabulary, chat, cores_,
                                     [this](const std::vector<cyllm_event>& events) { Tell(events); })),
      preparing_([this] { Prepare(); }, true),
      computing_([this] { Run(); }) {
  if (lane_) prompting_ = std::thread([this] { lane_->Run(); });
}

Engine::~Engine() {
  aside_.reset();  // ends what it has, and told it, before the rest is ended
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    abort_ = true;
  }
  prompt_came_.notify_all();
  mail_came_.notify_all();
  preparing_.Join();
  computing_.join();
  if (!lane_) return;
  lane_->Stop();
  prompting_.join();
}

int32_t Engine::Submit(const cyllm_request& in, cyllm_error* error) {
  const auto overloaded = [&] {
    return sdk::Fail(error, CYLLM_RESOURCE_EXHAUSTED, "too many requests are waiting for this model",
                     "overloaded", {}, true);
  };
  {
    std::lock_guard lock(mutex_);
    if (live_.size() >= max_requests_) return overloaded();
  }
  const std::optional<uint32_t> adapter = ReadAdapter(in, decoder_.adapters(), error);
  if (!adapter) return error ? error->code : CYLLM_NOT_FOUND;
  if (Aside::IsFor(in.kind)) return SubmitAside(in, error);
  std::unique_ptr<Request> request = ReadRequest(in, vocabulary_.size(), *adapter, error);
  if (!request) return error ? error->code : CYLLM_INVALID_ARGUMENT;
  request->submitted = std::chrono::steady_clock::now();
  {
    std::lock_guard lock(mutex_);
    if (draining_ || stopping_)
      return sdk::Fail(error, CYLLM_UNAVAILABLE, "the model is being unloaded", "draining", {}, true);
    if (live_.size() >= max_requests_) return overloaded();
    live_.insert(in.id);
    prompts_.push_back(std::move(request));
  }
  prompt_came_.notify_one();
  return CYLLM_OK;
}

int32_t Engine::SubmitAside(const cyllm_request& in, cyllm_error* error) {
  {
    std::lock_guard lock(mutex_);
    if (draining_ || stopping_)
      return sdk::Fail(error, CYLLM_UNAVAILABLE, "the model is being unloaded", "draining", {}, true);
    live_.insert(in.id);
  }
  const int32_t code = aside_->Submit(in, error);
  if (code == CYLLM_OK) return code;
  std::lock_guard lock(mutex_);
  live_.erase(in.id);
  if (live_.empty()) idle_.notify_all();
  return code;
}

void Engine::Cancel(uint64_t id) {
  if (aside_->Cancel(id)) return;
  {
    std::lock_guard lock(mutex_);
    if (!live_.contains(id)) return;
    const auto prompt = std::find_if(prompts_.begin(), prompts_.end(),
                                     [&](const auto& request) { return request->id == id; });
    if (prompt != prompts_.end()) {  // nobody needs to read it
      prompts_.erase(prompt);
      mail_.refused.emplace_back(id, MakeError(CYLLM_CANCELLED, "cancelled", "cancelled"));
    } else {
      mail_.commands.push_back({id, 0});
    }
    if (in_step_.erase(id) > 0 && in_step_.empty()) abort_ = true;
  }
  mail_came_.notify_one();
}

void Engine::Credit(uint64_t id, uint32_t events) {
  if (events == 0 || aside_->Credit(id, events)) return;
  {
    std::lock_guard lock(mutex_);
    if (!live_.contains(id)) return;
    mail_.commands.push_back({id, events});
  }
  mail_came_.notify_one();
}

void Engine::Drain() {
  std::unique_lock lock(mutex_);
  draining_ = true;
  idle_.wait(lock, [&] { return live_.empty(); });
}

cyllm_stats Engine::Stats() const {
  std::lock_guard lock(mutex_);
  cyllm_stats out{};
  out.size = sizeof out;
  out.running = stats_.running;
  out.waiting =
      static_cast<uint32_t>(live_.size()) - std::min(static_cast<uint32_t>(live_.size()), stats_.requests);
  out.kv_cells_used = stats_.cells_used;
  out.kv_cells_total = uint64_t{decoder_.max_running()} * decoder_.max_length();
  out.steps = stats_.steps + (lane_ ? lane_->steps() : 0) + aside_->steps();
  out.tokens_generated = stats_.generated;
  out.prompt_tokens_processed = stats_.prefilled;
  out.prompt_tokens_cached = stats_.cached;
  out.cached_tokens_evicted = stats_.evicted;
  out.preemptions = stats_.preemptions;
  out.draft_tokens = stats_.guessed;
  out.draft_tokens_accepted = stats_.guessed_right;
  return out;
}

void Engine::Prepare() {
  std::unique_lock lock(mutex_);
  while (true) {
    prompt_came_.wait(lock, [&] { return stopping_ || !prompts_.empty(); });
    if (stopping_) return;
    std::unique_ptr<Request> request = std::move(prompts_.front());
    prompts_.pop_front();
    lock.unlock();
    cyllm_error error{};
    error.size = sizeof error;
    const bool ready = Fill(request.get(), &error);
    lock.lock();
    if (ready) {
      mail_.ready.push_back(std::move(request));
    } else {
      mail_.refused.emplace_back(request->id, error);
    }
    mail_came_.notify_one();
  }
}

bool Engine::Fill(Request* request, cyllm_error* error) {
  try {
    if (!FillPrompt(chat_, vocabulary_, decoder_.max_length(), request, error)) return false;
    if (!request->constraint) return true;
    if (!index_) index_ = std::make_unique<TokenIndex>(vocabulary_);
    request->index = index_.get();
    return true;
  } catch (const std::exception& e) {
    *error =
        MakeError(CYLLM_INTERNAL, std::string("the prompt could not be read: ") + e.what(), "engine_failed");
    return false;
  }
}

void Engine::Run() {
  bool runnable = false;
  while (true) {
    Mail mail;
    {
      std::unique_lock lock(mutex_);
      const auto called = [&] { return stopping_ || landing_ || !mail_.empty(); };
      if (!runnable && !called()) {
        cores_.Expect(Cores::kDecode, false);
        if (const std::optional<TimePoint> at = scheduler_.WakeAt()) {
          mail_came_.wait_until(lock, *at, called);
        } else {
          mail_came_.wait(lock, called);
        }
      }
      if (stopping_) break;
      mail = std::exchange(mail_, {});
      landing_ = false;
    }
    if (!mail.empty()) Accept(std::move(mail));
    scheduler_.Land(&events_);
    if (!events_.list().empty()) Deliver();
    runnable = scheduler_.Plan();
    if (runnable) Step();
  }
  EndAll();
}

// Until its first step, those cores are kept for who comes from the prompt lane.
void Engine::Land() {
  {
    std::lock_guard lock(mutex_);
    landing_ = true;
    cores_.Expect(Cores::kDecode, true);
  }
  mail_came_.notify_one();
}

void Engine::Accept(Mail mail) {
  for (auto& request : mail.ready) {
    const uint64_t id = request->id;
    const auto early = early_.extract(id);
    if (early && early.mapped().cancelled) {
      const cyllm_error error = MakeError(CYLLM_CANCELLED, "cancelled", "cancelled");
      events_.End(id, &error);
      continue;
    }
    scheduler_.Add(std::move(request), &events_);
    if (early) scheduler_.Credit(id, early.mapped().credit);
  }
  for (const auto& [id, error] : mail.refused) {
    early_.erase(id);
    events_.End(id, &error);
  }
  for (const Command& command : mail.commands) Obey(command);
}

void Engine::Obey(const Command& command) {
  const bool known =
      command.credit > 0
          ? scheduler_.Credit(command.id, command.credit)
          : scheduler_.Cancel(command.id, MakeError(CYLLM_CANCELLED, "cancelled", "cancelled"), &events_);
  if (known) return;
  {
    std::lock_guard lock(mutex_);
    if (!live_.contains(command.id)) return;
  }
  for (const cyllm_event& event : events_.list())
    if (event.id == command.id && event.type == CYLLM_EVENT_END) return;  // ended just now
  Early& early = early_[command.id];
  early.credit += command.credit;
  early.cancelled = early.cancelled || command.credit == 0;
}

void Engine::Step() {
  const std::vector<uint64_t> ids = scheduler_.Planned();
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    in_step_ = {ids.begin(), ids.end()};
    for (const Command& command : mail_.commands)
      if (command.credit == 0) in_step_.erase(command.id);
    abort_ = in_step_.empty() && !ids.empty();
  }
  {
    const uint32_t threads = cores_.Enter(Cores::kDecode);
    decoder_.SetThreads(threads);
    scheduler_.Compute(abort_, &events_);
    cores_.Leave(threads);
  }
  {
    std::lock_guard lock(mutex_);
    in_step_.clear();
  }
  Deliver();
}

void Engine::EndAll() {
  std::vector<uint64_t> left;
  {
    std::lock_guard lock(mutex_);
    left.assign(live_.begin(), live_.end());
  }
  const cyllm_error error = MakeError(CYLLM_CANCELLED, "the model is being unloaded", "draining");
  for (const uint64_t id : left)
    if (!scheduler_.Cancel(id, error, &events_)) events_.End(id, &error);
  Deliver();
}

void Engine::Deliver() {
  {
    std::lock_guard lock(mutex_);
    stats_ = scheduler_.stats();
  }
  Tell(events_.list());
  events_.Clear();
  if (!callbacks_.cache) return;
  const PrefixNames::Changes c = scheduler_.CacheChanges();
  if (c.added.empty() && c.removed.empty()) return;
  std::lock_guard lock(telling_);
  callbacks_.cache(callbacks_.ctx, c.added.data(), c.added.size(), c.removed.data(), c.removed.size());
}

void Engine::Tell(const std::vector<cyllm_event>& events) {
  if (events.empty()) return;
  {
    std::lock_guard lock(telling_);
    callbacks_.events(callbacks_.ctx, events.data(), events.size());
  }
  std::lock_guard lock(mutex_);
  for (const cyllm_event& event : events)
    if (event.type == CYLLM_EVENT_END) live_.erase(event.id);
  if (live_.empty()) idle_.notify_all();
}

}  // namespace cyllm::llama
