#include "llama_cpp/aside.h"

#include <algorithm>
#include <cmath>
#include <exception>

#include "llama_cpp/detokenizer.h"
#include "sdk/engine.hpp"

namespace cyllm::llama {

namespace {

constexpr size_t kMaxInputs = 4096;

struct TooLong {};  // a text (HasLongStretch)

// Cut to `dimensions` if that is not 0, and made a unit vector.
void Normalise(uint32_t dimensions, std::vector<float>* vector) {
  if (dimensions > 0 && dimensions < vector->size()) vector->resize(dimensions);
  double sum = 0;
  for (const float v : *vector) sum += double{v} * v;
  const auto scale = static_cast<float>(sum > 0 ? 1 / std::sqrt(sum) : 0);
  for (float& v : *vector) v *= scale;
}

}  // namespace

Aside::Aside(AsideModel model, const Vocabulary& vocabulary, const ChatTemplate& chat, Cores& cores,
             Deliver deliver)
    : model_(std::move(model)),
      vocabulary_(vocabulary),
      chat_(chat),
      cores_(cores),
      deliver_(std::move(deliver)),
      thread_([this] { Run(); }, true) {}

Aside::~Aside() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.Join();
}

int32_t Aside::Submit(const cyllm_request& in, cyllm_error* error) {
  const auto refuse = [&](int32_t code, const char* message, const char* param = "") {
    return sdk::Fail(error, code, message, code == CYLLM_UNIMPLEMENTED ? "unsupported" : "invalid_value",
                     param);
  };
  const bool values = in.kind == CYLLM_KIND_EMBED || in.kind == CYLLM_KIND_RERANK;
  if (in.kind > CYLLM_KIND_DETOKENIZE)
    return refuse(CYLLM_UNIMPLEMENTED, "not a kind of request that is known");
  if (values && in.adapter.len > 0)
    return refuse(CYLLM_UNIMPLEMENTED, "vectors and ranks are not computed with adapters", "adapter");
  if (values && !model_.make_embedder)
    return refuse(CYLLM_UNIMPLEMENTED, "this model gives no embeddings", "model");
  if (in.kind == CYLLM_KIND_RERANK && !model_.ranks)
    return refuse(CYLLM_UNIMPLEMENTED, "this model has no head that ranks: a reranker model is needed",
                  "model");
  if (in.kind == CYLLM_KIND_EMBED && model_.ranks)
    return refuse(CYLLM_UNIMPLEMENTED, "this model ranks and gives no embeddings", "model");
  if (values && (in.n_inputs == 0 || in.n_inputs > kMaxInputs))
    return refuse(CYLLM_INVALID_ARGUMENT, "from 1 to 4096 inputs can be given", "input");
  auto job = std::make_shared<Job>();
  job->id = in.id;
  job->kind = in.kind;
  job->dimensions = in.dimensions;
  job->priority = in.priority;
  job->special = in.no_special_tokens == 0;
  job->pieces = in.sampling->logprobs != 0;
  job->chat.messages = sdk::View(in.messages_json);
  job->chat.tools = sdk::View(in.tools_json);
  job->chat.kwargs = sdk::View(in.template_kwargs_json);
  job->text = sdk::View(in.prompt);
  job->credit = in.credit;
  if (in.n_prompt_tokens) job->tokens.assign(in.prompt_tokens, in.prompt_tokens + in.n_prompt_tokens);
  for (size_t i = 0; values && i < in.n_inputs; ++i) {
    const cyllm_input input = sdk::Read(&sdk::At(in.inputs, i));
    job->inputs.emplace_back(sdk::View(input.text), std::vector<Token>());
    if (input.n_tokens) job->inputs.back().second.assign(input.tokens, input.tokens + input.n_tokens);
  }
  const auto unknown = [&](Token t) { return t < 0 || static_cast<uint32_t>(t) >= vocabulary_.size(); };
  bool strange = std::any_of(job->tokens.begin(), job->tokens.end(), unknown);
  for (const auto& [text, tokens] : job->inputs)
    strange = strange || std::any_of(tokens.begin(), tokens.end(), unknown);
  if (strange)
    return refuse(CYLLM_INVALID_ARGUMENT, "not a token of this model", values ? "input" : "tokens");
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  changed_.notify_all();
  return CYLLM_OK;
}

bool Aside::Cancel(uint64_t id) {
  {
    std::lock_guard lock(mutex_);
    const auto it = std::find_if(jobs_.begin(), jobs_.end(), [&](const auto& job) { return job->id == id; });
    if (it == jobs_.end()) return false;
    (*it)->cancelled = true;
  }
  changed_.notify_all();
  return true;
}

bool Aside::Credit(uint64_t id, uint32_t events) {
  {
    std::lock_guard lock(mutex_);
    const auto it = std::find_if(jobs_.begin(), jobs_.end(), [&](const auto& job) { return job->id == id; });
    if (it == jobs_.end()) return false;
    (*it)->credit += events;
  }
  changed_.notify_all();
  return true;
}

// The next job that can do something, under the lock.
std::shared_ptr<Aside::Job> Aside::Choose() {
  const auto find = [&](auto&& suits) {
    const auto it = std::find_if(jobs_.begin(), jobs_.end(), [&](const auto& job) { return suits(*job); });
    return it == jobs_.end() ? nullptr : *it;
  };
  if (auto job = find([&](const Job& j) { return stopping_ || j.cancelled; })) return job;
  if (auto job = find([](const Job& j) { return j.kind >= CYLLM_KIND_TOKENIZE && j.credit > 0; })) return job;
  std::shared_ptr<Job> first;
  for (const auto& job : jobs_)
    if ((job->credit > 0 || !job->started) && (!first || job->priority < first->priority)) first = job;
  return first;
}

void Aside::Run() {
  while (true) {
    std::shared_ptr<Job> job;
    bool end = false;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return (job = Choose()) || stopping_; });
      if (!job) return;
      end = stopping_ || job->cancelled;
    }
    if (end) {
      End(*job, CYLLM_CANCELLED, "cancelled", "cancelled");
    } else {
      try {
        Work(job.get());
      } catch (const TooLong&) {
        events_.Clear();
        End(*job, CYLLM_INVALID_ARGUMENT,
            "there are " + std::to_string(kLongStretch) + " characters or more without a break",
            "invalid_value", job->inputs.empty() ? "prompt" : "input");
      } catch (const std::exception& e) {
        events_.Clear();
        End(*job, CYLLM_INTERNAL, std::string("the request failed: ") + e.what(), "engine_failed");
      }
    }
    const std::vector<cyllm_event>& events = events_.list();
    const bool ended = !events.empty() && events.back().type == CYLLM_EVENT_END;
    if (!events.empty()) deliver_(events);
    events_.Clear();
    std::lock_guard lock(mutex_);
    std::erase(jobs_, job);
    if (!ended) jobs_.push_back(job);
  }
}

bool Aside::Wanted(const Job& job) {
  std::lock_guard lock(mutex_);
  return !stopping_ && !job.cancelled;
}

void Aside::Work(Job* job) {
  if (job->kind >= CYLLM_KIND_TOKENIZE) return Tokens(*job);
  if (!job->started) return Begin(job);
  Values(job);
}

void Aside::Tokens(const Job& job) {
  std::vector<Token> tokens = job.tokens;
  Delta delta;
  if (job.kind == CYLLM_KIND_TOKENIZE) {
    std::string text = job.text;
    if (!job.chat.messages.empty()) {
      ChatPrompt prompt;
      ChatError wrong;
      if (!chat_.Render(job.chat, &prompt, &wrong))
        return End(job, CYLLM_INVALID_ARGUMENT, wrong.message, "invalid_value", wrong.param);
      text = std::move(prompt.text);
    }
    tokens = Tokenize(text, job.special);
    delta.part.text = std::move(text);
    for (size_t i = 0; job.pieces && i < tokens.size(); ++i)
      delta.scores.push_back({{.token = tokens[i]}, vocabulary_.Piece(tokens[i]), {}});
  } else {
    Detokenizer detokenizer;
    for (const Token token : tokens) delta.part.text += detokenizer.Push(vocabulary_.Piece(token));
    delta.part.text += detokenizer.Flush();
  }
  const auto n = static_cast<uint32_t>(tokens.size());
  delta.end = {n, delta.part.text.size(), 0, 0};
  delta.tokens = std::move(tokens);
  events_.Add(job.id, CYLLM_EVENT_ACCEPTED).prompt_tokens = n;
  const cyllm_offsets end = delta.end;
  events_.Piece(job.id, 0, std::move(delta), {});
  cyllm_event& finished = events_.Add(job.id, CYLLM_EVENT_FINISHED);
  finished.prompt_tokens = n;
  finished.end = end;
  events_.End(job.id, nullptr);
}

std::vector<Token> Aside::Tokenize(const std::string& text, bool begin) const {
  if (HasLongStretch(text)) throw TooLong();
  return vocabulary_.Tokenize(text, begin);
}

void Aside::Begin(Job* job) {
  if (!embedder_) {
    std::string why;
    std::lock_guard turn(cores_);
    embedder_ = model_.make_embedder(&why);
    if (!embedder_) return End(*job, CYLLM_RESOURCE_EXHAUSTED, why, "out_of_memory");
  }
  const std::vector<Token> query =
      job->kind == CYLLM_KIND_RERANK ? Tokenize(job->text, false) : std::vector<Token>();
  uint32_t total = 0;
  for (const auto& [text, given] : job->inputs) {
    std::vector<Token> tokens = !given.empty()                   ? given
                                : job->kind == CYLLM_KIND_RERANK ? Tokenize(text, false)
                                                                 : Tokenize(text, true);
    if (job->kind == CYLLM_KIND_RERANK) tokens = embedder_->Pair(query, tokens);
    const std::string which = "input " + std::to_string(job->prepared.size());
    if (tokens.empty())
      return End(*job, CYLLM_INVALID_ARGUMENT, which + " is empty", "invalid_value", "input");
    if (tokens.size() > embedder_->max_tokens())
      return End(*job, CYLLM_INVALID_ARGUMENT,
                 which + " has " + std::to_string(tokens.size()) + " tokens; at most " +
                     std::to_string(embedder_->max_tokens()) + " can be taken",
                 "context_length_exceeded", "input");
    total += static_cast<uint32_t>(tokens.size());
    job->prepared.push_back(std::move(tokens));
  }
  job->started = true;
  job->inputs.clear();
  events_.Add(job->id, CYLLM_EVENT_ACCEPTED).prompt_tokens = total;
}

// As many of the inputs as fit one run and as there is credit for.
void Aside::Values(Job* job) {
  uint64_t credit = 0;
  {
    std::lock_guard lock(mutex_);
    credit = job->credit;
  }
  size_t n = 0, tokens = 0;
  while (n < credit && n < embedder_->max_inputs() && job->done + n < job->prepared.size() &&
         tokens + job->prepared[job->done + n].size() <= embedder_->max_tokens())
    tokens += job->prepared[job->done + n++].size();
  std::vector<std::vector<float>> vectors;
  bool ok = false;
  {
    std::unique_lock<Cores> turn(cores_);
    const auto between = [&] {
      ++steps_;
      turn.unlock();  // others compute a step
      turn.lock();
      return Wanted(*job);
    };
    ok = embedder_->Run({job->prepared.data() + job->done, n}, between, &vectors);
  }
  if (!Wanted(*job)) return End(*job, CYLLM_CANCELLED, "cancelled", "cancelled");
  if (!ok) return End(*job, CYLLM_INTERNAL, "llama.cpp could not compute the inputs", "engine_failed");
  for (std::vector<float>& vector : vectors) {
    if (job->kind == CYLLM_KIND_EMBED) Normalise(job->dimensions, &vector);
    cyllm_event& event = events_.Add(job->id, CYLLM_EVENT_VALUES, static_cast<uint32_t>(job->done++));
    const std::vector<float>& kept = events_.Keep(std::move(vector));
    event.values = kept.data();
    event.n_values = kept.size();
  }
  {
    std::lock_guard lock(mutex_);
    job->credit -= n;
  }
  if (job->done == job->prepared.size()) Finish(*job);
}

void Aside::Finish(const Job& job) {
  uint32_t total = 0;
  for (const std::vector<Token>& tokens : job.prepared) total += static_cast<uint32_t>(tokens.size());
  events_.Add(job.id, CYLLM_EVENT_FINISHED).prompt_tokens = total;
  events_.End(job.id, nullptr);
}

void Aside::End(const Job& job, int32_t code, std::string_view message, std::string_view reason,
                std::string_view param) {
  cyllm_error error{};
  error.size = sizeof error;
  sdk::Fail(&error, code, message, reason, param);
  events_.End(job.id, &error);
}

}  // namespace cyllm::llama
