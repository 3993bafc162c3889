#include "echo/job.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace cyllm::echo {

namespace {

// Tokens of one choice in one step when they take no time: bounded, so that no request holds the others up.
constexpr int kTokensPerStep = 64;

Clock::duration Duration(double ms) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::milli>(ms));
}

double ToMs(Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

std::string Stamp() {
  const auto ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
  char text[19];
  std::snprintf(text, sizeof text, "@T%016llx", static_cast<unsigned long long>(ns));
  return text;
}

std::vector<std::string> Stops(const cyllm_sampling& sampling) {
  std::vector<std::string> stops;
  for (size_t i = 0; i < sampling.n_stop; ++i) stops.emplace_back(sdk::View(sampling.stop[i]));
  return stops;
}

}  // namespace

cyllm_event& Step::Add(uint64_t id, uint32_t type, uint32_t choice) {
  return events_.emplace_back(sdk::MakeEvent(id, type, choice));
}
cyllm_str Step::Keep(std::string text) { return sdk::Str(texts_.emplace_back(std::move(text))); }
const int32_t* Step::Keep(int32_t token) { return &tokens_.emplace_back(token); }
const std::vector<int32_t>& Step::Keep(std::vector<int32_t> tokens) {
  return token_lists_.emplace_back(std::move(tokens));
}
const std::vector<float>& Step::Keep(std::vector<float> values) {
  return values_.emplace_back(std::move(values));
}
const cyllm_logprob* Step::Keep(const cyllm_logprob& logprob) { return &logprobs_.emplace_back(logprob); }
const std::vector<cyllm_logprob>& Step::Keep(std::vector<cyllm_logprob> logprobs) {
  return logprob_lists_.emplace_back(std::move(logprobs));
}
const cyllm_error* Step::Keep(const cyllm_error& error) { return &errors_.emplace_back(error); }
void Step::Clear() {
  events_.clear();
  texts_.clear();
  tokens_.clear();
  token_lists_.clear();
  values_.clear();
  logprobs_.clear();
  logprob_lists_.clear();
  errors_.clear();
}

Job::Job(const cyllm_request& request, Prompt prompt, const Options& options, TimePoint now)
    : id_(request.id),
      kind_(request.kind),
      prompt_(std::move(prompt)),
      options_(options),
      submitted_(now),
      echo_(request.echo && request.kind != CYLLM_KIND_CHAT),
      logprobs_(request.sampling->logprobs),
      top_logprobs_(request.sampling->top_logprobs),
      credit_(request.credit) {
  const bool bounded = request.max_tokens != CYLLM_MAX_TOKENS_UNSET;
  const auto words = static_cast<uint32_t>(prompt_.words.size());
  length_ = options.reply_tokens.value_or(bounded ? request.max_tokens : words);
  if (words == 0 && !options.stamp) length_ = 0;
  if (!prompt_.script.pieces.empty()) length_ = static_cast<uint32_t>(prompt_.script.pieces.size());
  cut_ = bounded && request.max_tokens <= length_ &&
         (prompt_.script.pieces.empty() || request.max_tokens < length_);
  if (cut_) length_ = request.max_tokens;
  const std::vector<std::string> stops = calls() ? std::vector<std::string>() : Stops(*request.sampling);
  for (uint32_t i = 0; i < request.n; ++i) {
    choices_.emplace_back(stops);
    choices_.back().due = now + Duration(options.ttft_ms);
  }
}

bool Job::Resume(const cyllm_resume_choice* choices, std::string* why) {
  for (size_t i = 0; i < choices_.size(); ++i)
    if (!Replay(choices_[i], choices[i], why)) return false;
  return true;
}

bool Job::Replay(Choice& choice, const cyllm_resume_choice& state, std::string* why) {
  std::string text;
  if (echo_ && (state.n_token_ids > 0 || state.text_bytes > 0)) {
    choice.echoed = true;
    text = prompt_.text;
  }
  for (size_t n = 0; n < state.n_token_ids; ++n) {
    if (Complete(choice) || state.token_ids[n] != static_cast<int32_t>(WordAt(n)) + 1) {
      *why = "token " + std::to_string(n) + " of the state to resume from is none of this request's";
      return false;
    }
    ++choice.end.tokens;
    text += choice.stop.Push(PieceAt(n));
  }
  if (choice.end.tokens >= length_ && !choice.stop.matched()) text += choice.stop.Flush();
  const uint64_t bytes = calls() ? state.tool_argument_bytes : state.text_bytes;
  if (text.size() < bytes || bytes != state.text_bytes + state.reasoning_bytes + state.tool_argument_bytes) {
    *why = "more was delivered than the tokens of the state to resume from say";
    return false;
  }
  (calls() ? choice.end.tool_argument_bytes : choice.end.text_bytes) = bytes;
  choice.pending = text.substr(bytes);
  return true;
}

std::string Job::PieceAt(uint64_t n) const {
  if (!prompt_.script.pieces.empty()) return prompt_.script.pieces[n];
  return options_.stamp ? Stamp() : (n > 0 || echo_ ? " " : "") + prompt_.words[WordAt(n)];
}

TimePoint Job::due() const {
  if (!accepted_) return TimePoint::min();
  if (aside()) return credit_ > 0 ? TimePoint::min() : TimePoint::max();
  TimePoint due = TimePoint::max();
  for (const Choice& choice : choices_) {
    const bool ends = Complete(choice) && choice.pending.empty();  // finishing needs no credit
    if (!choice.finished && !Hangs(choice) && (credit_ > 0 || ends)) due = std::min(due, choice.due);
  }
  return due;
}

void Job::Advance(TimePoint now, Step& step) {
  if (!accepted_) {
    accepted_ = true;
    step.Add(id_, CYLLM_EVENT_ACCEPTED).prompt_tokens = prompt_.tokens;
  }
  if (aside()) return Aside(step);
  for (int round = 0; round < kTokensPerStep; ++round) {
    bool progress = false;
    for (uint32_t i = 0; i < choices_.size() && !ended_; ++i) progress |= Produce(i, now, step);
    if (!progress) break;
  }
  if (!ended_ && std::all_of(choices_.begin(), choices_.end(), [](const Choice& c) { return c.finished; }))
    End(CYLLM_OK, "", step);
}

// Values of the inputs, or the tokens of a text; then the end.
void Job::Aside(Step& step) {
  for (; told_ < prompt_.values.size() && credit_ > 0; ++told_, --credit_) {
    cyllm_event& event = step.Add(id_, CYLLM_EVENT_VALUES, static_cast<uint32_t>(told_));
    const std::vector<float>& values = step.Keep(prompt_.values[told_]);
    event.values = values.data();
    event.n_values = values.size();
  }
  if (told_ < prompt_.values.size() || (prompt_.values.empty() && credit_ <= 0)) return;
  cyllm_offsets end{};
  if (prompt_.values.empty()) {
    --credit_;
    cyllm_event& event = step.Add(id_, CYLLM_EVENT_TEXT);
    event.text = step.Keep(prompt_.text);
    const std::vector<int32_t>& tokens = step.Keep(prompt_.token_ids);
    event.token_ids = tokens.data();
    event.n_token_ids = tokens.size();
    event.end = end = {prompt_.token_ids.size(), prompt_.text.size(), 0, 0};
    if (logprobs_) {
      std::vector<cyllm_logprob> pieces;
      for (const int32_t token : tokens)
        pieces.push_back({token, 0, step.Keep(std::string(1, static_cast<char>(token))), nullptr, 0});
      event.logprobs = step.Keep(std::move(pieces)).data();
      event.n_logprobs = tokens.size();
    }
  }
  cyllm_event& finished = step.Add(id_, CYLLM_EVENT_FINISHED);
  finished.prompt_tokens = prompt_.tokens;
  finished.end = end;
  End(CYLLM_OK, "", step);
}

// One token of one choice, or its end; false when there is nothing to do now.
bool Job::Produce(uint32_t index, TimePoint now, Step& step) {
  Choice& choice = choices_[index];
  if (choice.finished || choice.due > now) return false;
  const uint64_t n = choice.end.tokens;
  if (Hangs(choice)) return false;
  if (options_.crash_after && n >= *options_.crash_after) std::abort();
  if (options_.fail_after && n >= *options_.fail_after) {
    Fail(step);
    return true;
  }
  if (echo_ && !choice.echoed) {
    if (credit_ <= 0) return false;
    choice.echoed = true;
    choice.end.text_bytes += prompt_.text.size();
    --credit_;
    cyllm_event& event = step.Add(id_, CYLLM_EVENT_TEXT, index);
    event.text = step.Keep(prompt_.text);
    event.end = choice.end;
    return true;
  }
  if (Complete(choice)) {
    if (!choice.pending.empty()) {
      if (credit_ <= 0) return false;
      --credit_;
      Emit(index, {}, std::nullopt, step);
    }
    Finish(index, cut_ && !choice.stop.matched() ? CYLLM_FINISH_LENGTH : CYLLM_FINISH_STOP, step);
    return true;
  }
  if (credit_ <= 0) return false;
  --credit_;

  const std::string piece = PieceAt(n);
  if (choice.first == TimePoint()) choice.first = now;
  choice.last = now;
  ++choice.end.tokens;
  // Missed instants are not made up for: a token comes itl after the one before.
  choice.due = now + Duration(options_.itl_ms);
  std::string text = choice.stop.Push(piece);
  const bool last = choice.end.tokens >= length_ && !choice.stop.matched();
  if (last) text += choice.stop.Flush();
  Emit(index, std::move(text), static_cast<int32_t>(WordAt(n)) + 1, step);
  if (choice.stop.matched()) Finish(index, CYLLM_FINISH_STOP, step);
  if (last && !options_.fail_after && !options_.crash_after && !options_.hang_after)
    Finish(index, cut_ ? CYLLM_FINISH_LENGTH : CYLLM_FINISH_STOP, step);
  return true;
}

void Job::Emit(uint32_t index, std::string text, std::optional<int32_t> token, Step& step) {
  Choice& choice = choices_[index];
  text.insert(0, std::exchange(choice.pending, {}));
  (calls() ? choice.end.tool_argument_bytes : choice.end.text_bytes) += text.size();
  cyllm_event& event = step.Add(id_, calls() ? CYLLM_EVENT_TOOL_CALL : CYLLM_EVENT_TEXT, index);
  event.text = step.Keep(std::move(text));
  event.end = choice.end;
  if (calls() && choice.end.tokens == 1) {
    event.tool_id = step.Keep("call_echo_" + std::to_string(index) + "_" + prompt_.script.tool);
    event.tool_name = step.Keep(prompt_.script.tool);
  }
  if (!token) return;
  event.token_ids = step.Keep(*token);
  event.n_token_ids = 1;
  if (logprobs_) {
    cyllm_logprob logprob{*token, 0, event.text, nullptr, 0};
    if (top_logprobs_ > 0) {
      logprob.top = step.Keep(logprob);
      logprob.n_top = 1;
    }
    event.logprobs = step.Keep(logprob);
    event.n_logprobs = 1;
  }
}

void Job::Finish(uint32_t index, uint32_t reason, Step& step) {
  Choice& choice = choices_[index];
  choice.finished = true;
  cyllm_event& event = step.Add(id_, CYLLM_EVENT_FINISHED, index);
  event.finish_reason = calls() && reason == CYLLM_FINISH_STOP ? uint32_t{CYLLM_FINISH_TOOL_CALLS} : reason;
  if (choice.stop.matched()) event.stop_match = step.Keep(*choice.stop.matched());
  event.prompt_tokens = prompt_.tokens;
  event.completion_tokens = static_cast<uint32_t>(choice.end.tokens);
  if (choice.first != TimePoint()) {
    event.ttft_ms = ToMs(choice.first - submitted_);
    event.decode_ms = ToMs(choice.last - choice.first);
  }
}

void Job::Fail(Step& step) {
  ended_ = true;
  cyllm_error error;
  error.size = sizeof error;
  sdk::Fail(&error, CYLLM_UNAVAILABLE, "echo: fail_after was reached", "engine_failed", {}, true);
  step.Add(id_, CYLLM_EVENT_END).error = step.Keep(error);
}

void Job::End(int32_t code, const char* message, Step& step) {
  ended_ = true;
  cyllm_event& event = step.Add(id_, CYLLM_EVENT_END);
  if (code == CYLLM_OK) return;
  cyllm_error error;
  error.size = sizeof error;
  sdk::Fail(&error, code, message);
  event.error = step.Keep(error);
}

}  // namespace cyllm::echo
