// For tests: builds requests and gathers what comes back.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "sdk/engine.hpp"

namespace cyllm::llama::testing {

// A chat request, greedy, with plenty of credit, until told otherwise.
struct TestRequest {
  explicit TestRequest(uint64_t id) {
    constexpr double kUnset = std::numeric_limits<double>::quiet_NaN();
    sampling = {};
    sampling.size = sizeof sampling;
    sampling.temperature = 0;
    sampling.top_p = sampling.min_p = kUnset;
    sampling.repetition_penalty = sampling.presence_penalty = sampling.frequency_penalty = kUnset;
    sampling.top_k = INT32_MIN;
    request = {};
    request.size = sizeof request;
    request.id = id;
    request.max_tokens = 64;
    request.n = 1;
    request.credit = 100000;
  }

  TestRequest& Chat(const std::string& user) {
    messages = R"([{"role":"user","content":")" + user + R"("}])";
    return *this;
  }
  TestRequest& Text(const std::string& text) {
    request.kind = CYLLM_KIND_TEXT;
    prompt = text;
    return *this;
  }
  TestRequest& Tokens(std::vector<int32_t> ids) {
    request.kind = CYLLM_KIND_TOKENS;
    tokens = std::move(ids);
    return *this;
  }
  TestRequest& Adapter(const std::string& name) {
    adapter = name;
    return *this;
  }
  // Goes on where another engine stood.
  TestRequest& Resume(const struct Result& so_far);
  TestRequest& Stop(std::vector<std::string> texts) {
    stop = std::move(texts);
    return *this;
  }

  // Points into this object.
  const cyllm_request& get() {
    stops.clear();
    for (const std::string& s : stop) stops.push_back(sdk::Str(s));
    sampling.stop = stops.data();
    sampling.n_stop = stops.size();
    request.adapter = sdk::Str(adapter);
    request.messages_json = sdk::Str(messages);
    request.tools_json = sdk::Str(tools);
    request.tool_choice_json = sdk::Str(tool_choice);
    request.response_format_json = sdk::Str(response_format);
    request.extra_json = sdk::Str(extra);
    for (const std::string& text : inputs) given.push_back({sizeof(cyllm_input), sdk::Str(text), nullptr, 0});
    request.inputs = given.data();
    request.n_inputs = given.size();
    request.resume = resume.empty() ? nullptr : resume.data();
    request.prompt = sdk::Str(prompt);
    request.prompt_tokens = tokens.data();
    request.n_prompt_tokens = tokens.size();
    request.sampling = &sampling;
    return request;
  }

  cyllm_request request;
  cyllm_sampling sampling;
  std::string adapter, messages, prompt, tools, tool_choice, response_format, extra;
  std::vector<cyllm_resume_choice> resume;
  std::vector<std::string> inputs;
  std::vector<cyllm_input> given;
  std::vector<int32_t> tokens;
  std::vector<std::string> stop;
  std::vector<cyllm_str> stops;
};

struct ChoiceResult {
  std::string text, reasoning;
  struct Call {
    std::string id, name, arguments;
    bool operator==(const Call&) const = default;
  };
  std::vector<Call> calls;
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<std::string> pieces;  // the bytes that go with them
  uint32_t text_events = 0;
  bool finished = false;
  uint32_t reason = 0, prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  std::string stop_match;
};

struct Result {
  bool accepted = false, ended = false;
  uint32_t prompt_tokens = 0;
  int32_t code = 0;
  std::string reason, param, message;
  std::map<uint32_t, ChoiceResult> choices;
  std::vector<std::vector<float>> values;
};

// `so_far` outlives the submit.
inline TestRequest& TestRequest::Resume(const Result& so_far) {
  for (uint32_t i = 0; i < request.n; ++i) {
    const auto it = so_far.choices.find(i);
    if (it == so_far.choices.end()) {
      resume.push_back({});
      continue;
    }
    const ChoiceResult& c = it->second;
    size_t arguments = 0;
    for (const ChoiceResult::Call& call : c.calls) arguments += call.arguments.size();
    resume.push_back({c.tokens.data(), c.tokens.size(), c.text.size(), c.reasoning.size(), arguments});
  }
  return *this;
}

// Checks what must hold for every stream of events. Thread-safe.
class Gatherer {
 public:
  cyllm_callbacks callbacks() { return {sizeof(cyllm_callbacks), this, OnEvents}; }

  void Take(const cyllm_event* events, size_t n) {
    std::lock_guard lock(mutex_);
    ++calls_;
    for (size_t i = 0; i < n; ++i) Take(events[i]);
    changed_.notify_all();
  }

  // What another engine delivered of request `id` before.
  void Before(uint64_t id, Result so_far) {
    std::lock_guard lock(mutex_);
    so_far.accepted = so_far.ended = false;
    for (auto& [index, choice] : so_far.choices) choice.finished = false;
    results_[id] = std::move(so_far);
  }
  Result Wait(uint64_t id) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return results_[id].ended; });
    return results_[id];
  }
  void WaitText(uint64_t id, uint32_t events) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return results_[id].choices[0].text_events >= events || results_[id].ended; });
  }
  void WaitValues(uint64_t id, size_t n) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return results_[id].values.size() >= n || results_[id].ended; });
  }
  // The request's result as it was before each of its deltas, and after the last.
  std::vector<Result> Cuts(uint64_t id) {
    std::lock_guard lock(mutex_);
    std::vector<Result> out = steps_[id];
    out.push_back(results_[id]);
    return out;
  }
  Result Now(uint64_t id) {
    std::lock_guard lock(mutex_);
    return results_[id];
  }

 private:
  static void OnEvents(void* self, const cyllm_event* events, size_t n) {
    static_cast<Gatherer*>(self)->Take(events, n);
  }

  void Take(const cyllm_event& e) {
    Result& r = results_[e.id];
    EXPECT_FALSE(r.ended) << "an event after END";
    if (e.type == CYLLM_EVENT_END) {
      r.ended = true;
      if (e.error) {
        r.code = e.error->code;
        r.reason = e.error->reason;
        r.param = e.error->param;
        r.message = e.error->message;
      }
      return;
    }
    if (e.type == CYLLM_EVENT_ACCEPTED) {
      EXPECT_FALSE(r.accepted);
      r.accepted = true;
      r.prompt_tokens = e.prompt_tokens;
      return;
    }
    EXPECT_TRUE(r.accepted) << "an event before ACCEPTED";
    if (e.type == CYLLM_EVENT_VALUES) {
      EXPECT_EQ(e.choice, r.values.size());
      r.values.emplace_back(e.values, e.values + e.n_values);
      return;
    }
    if (e.type != CYLLM_EVENT_FINISHED) steps_[e.id].push_back(r);
    ChoiceResult& c = r.choices[e.choice];
    EXPECT_FALSE(c.finished) << "an event after FINISHED";
    if (e.type != CYLLM_EVENT_FINISHED) {
      ++c.text_events;
      if (e.type == CYLLM_EVENT_TEXT) c.text += sdk::View(e.text);
      if (e.type == CYLLM_EVENT_REASONING) c.reasoning += sdk::View(e.text);
      if (e.type == CYLLM_EVENT_TOOL_CALL) {
        if (e.tool_index >= c.calls.size()) {
          EXPECT_GT(e.tool_name.len, 0u) << "a call begins with its name";
          EXPECT_GT(e.tool_id.len, 0u);
          c.calls.resize(e.tool_index + 1);
          c.calls.back().id = std::string(sdk::View(e.tool_id));
          c.calls.back().name = std::string(sdk::View(e.tool_name));
        } else {
          EXPECT_EQ(e.tool_name.len, 0u) << "a name twice";
        }
        c.calls[e.tool_index].arguments += sdk::View(e.text);
      }
      c.tokens.insert(c.tokens.end(), e.token_ids, e.token_ids + e.n_token_ids);
      for (size_t i = 0; i < e.n_logprobs; ++i) {
        c.logprobs.push_back(e.logprobs[i].logprob);
        c.pieces.emplace_back(sdk::View(e.logprobs[i].bytes));
      }
    } else {
      ASSERT_EQ(e.type, static_cast<uint32_t>(CYLLM_EVENT_FINISHED));
      c.finished = true;
      c.reason = e.finish_reason;
      c.prompt_tokens = e.prompt_tokens;
      c.completion_tokens = e.completion_tokens;
      c.cached_tokens = e.cached_tokens;
      c.stop_match = std::string(sdk::View(e.stop_match));
    }
    size_t arguments = 0;
    for (const ChoiceResult::Call& call : c.calls) arguments += call.arguments.size();
    EXPECT_EQ(e.end.text_bytes, c.text.size());
    EXPECT_EQ(e.end.reasoning_bytes, c.reasoning.size());
    EXPECT_EQ(e.end.tool_argument_bytes, arguments);
    EXPECT_EQ(e.end.tokens, c.tokens.size());
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, Result> results_;
  uint64_t calls_ = 0;
  std::map<uint64_t, std::vector<Result>> steps_;  // each request's result after each of its deltas
};

}  // namespace cyllm::llama::testing
