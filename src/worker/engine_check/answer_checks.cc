#include <cmath>
#include <cstddef>
#include <iterator>

#include "worker/engine_check/checks.h"
#include "worker/engine_check/client.h"

namespace cyllm::engine_check {

namespace {

// A request that must be answered well: n choices, each finished.
void MustAnswer(Client& client, const Ask& ask, const char* what, const Report& wrong) {
  const Answer answer = client.Run(ask);
  if (answer.refused != CYLLM_OK) return wrong(std::string(what) + ": refused: " + answer.message);
  if (answer.ends != 1) return wrong(std::string(what) + ": no END");
  if (answer.code != CYLLM_OK) return wrong(std::string(what) + ": failed: " + answer.message);
  if (answer.choices.size() != ask.n) wrong(std::string(what) + ": not every choice was answered");
  for (const auto& [index, choice] : answer.choices) {
    if (index >= ask.n) wrong(std::string(what) + ": a choice that was not asked for");
    if (choice.completion_tokens > ask.max_tokens) wrong(std::string(what) + ": more tokens than max_tokens");
    if (choice.reason == CYLLM_FINISH_LENGTH && choice.completion_tokens != ask.max_tokens)
      wrong(std::string(what) + ": finish reason `length` before max_tokens");
  }
}

// A request that need not be answered, but must come to one end.
void MustSurvive(Client& client, const Ask& ask, const std::string& what, const Report& wrong) {
  const Answer answer = client.Run(ask);
  if (answer.refused == CYLLM_OK && answer.ends != 1) wrong(what + ": no END");
  if (client.Run({}).code != CYLLM_OK) wrong(what + ": broke the requests after it");
}

void Chats(const Subject& s, const Report& wrong) {
  With(s, wrong, [](Client& client, const Report& w) {
    MustAnswer(client, {}, "a chat", w);
    Ask unbounded;
    unbounded.max_tokens = 1;
    MustAnswer(client, unbounded, "one token", w);
    Ask none;
    none.max_tokens = 0;
    const Answer answer = client.Run(none);
    if (answer.code != CYLLM_OK || answer.choices.size() != 1 ||
        answer.choices.begin()->second.end.tokens != 0)
      w("max_tokens 0 must give no token and finish");
    else if (answer.choices.begin()->second.reason != CYLLM_FINISH_LENGTH)
      w("max_tokens 0 must finish with `length`");
  });
}

void OtherKinds(const Subject& s, const Report& wrong) {
  With(s, wrong, [&](Client& client, const Report& w) {
    const uint64_t can = client.capabilities();
    const auto ask = [&](uint32_t kind, uint64_t capability, const char* what) {
      Ask a;
      a.kind = kind;
      a.messages.clear();
      a.prompt = "Once upon a time";
      if (can & capability) return MustAnswer(client, a, what, w);
      if (client.Run(a).refused == CYLLM_OK) w(std::string(what) + ": taken without the capability");
    };
    ask(CYLLM_KIND_TEXT, CYLLM_CAP_TEXT, "text");
    if (!(can & CYLLM_CAP_EMBED)) ask(CYLLM_KIND_EMBED, CYLLM_CAP_EMBED, "embed");
    if (!(can & CYLLM_CAP_RERANK)) ask(CYLLM_KIND_RERANK, CYLLM_CAP_RERANK, "rerank");
    ask(77, 0, "an unknown kind");
  });
}

void Choices(const Subject& s, const Report& wrong) {
  With(s, wrong, [](Client& client, const Report& w) {
    Ask three;
    three.n = 3;
    const Answer answer = client.Run(three);
    if (answer.refused == CYLLM_OK) MustAnswer(client, three, "three choices", w);
    Ask zero;
    zero.n = 0;
    if (client.Run(zero).refused == CYLLM_OK) w("no choices must be refused");
    Ask absurd;
    absurd.n = UINT32_MAX;
    if (client.Run(absurd).refused == CYLLM_OK) w("4 billion choices must be refused");
  });
}

void StopStrings(const Subject& s, const Report& wrong) {
  With(s, wrong, [](Client& client, const Report& w) {
    Ask ask;
    ask.stop = {" ", "\n"};
    ask.max_tokens = 16;
    const Answer answer = client.Run(ask);
    if (answer.code != CYLLM_OK || answer.choices.empty()) return w("a stop string made it fail");
    if (answer.choices.at(0).text.find_first_of(" \n") != std::string::npos)
      w("a stop string is in the output");
    ask.stop = {""};
    MustSurvive(client, ask, "an empty stop string", w);
  });
}

void Logprobs(const Subject& s, const Report& wrong) {
  Where(s, wrong, CYLLM_CAP_LOGPROBS, [](Client& client, const Report& w) {
    Ask ask;
    ask.logprobs = true;
    MustAnswer(client, ask, "logprobs", w);
  });
}

void OlderAndNewerHosts(const Subject& s, const Report& wrong) {
  With(s, wrong, [](Client& client, const Report& w) {
    for (const size_t size : {offsetof(cyllm_request, suffix), offsetof(cyllm_request, resume)}) {
      Ask older;
      older.request_size = size;
      older.sampling_size = offsetof(cyllm_sampling, stop_token_ids);
      MustAnswer(client, older, "an older host's request", w);
    }
    Ask newer;
    newer.request_size += 256;
    newer.sampling_size += 256;
    MustAnswer(client, newer, "a newer host's request", w);
  });
}

void GarbageMessages(const Subject& s, const Report& wrong) {
  Where(s, wrong, CYLLM_CAP_CHAT, [](Client& client, const Report& w) {
    const std::vector<std::string> garbage = {
        "",
        "{",
        "null",
        "[1]",
        "[]",
        "[{}]",
        "[[[]]]",
        R"([{"role":7,"content":"x"}])",
        R"([{"role":"user","content":7}])",
        R"([{"role":"user","content":null}])",
        R"([{"role":"user","content":[{"type":"text"}]}])",
        R"([{"role":"user","content":""}])",
        R"([{"role":"wizard","content":"x"}])",
        "[{\"role\":\"user\",\"content\":\"\xff\xfe\"}]",
        R"([{"role":"user","content":"\ud800"}])",
        std::string(100'000, '['),
        R"([{"role":"user","content":")" + std::string(300'000, 'x') + R"("}])",
        R"([{"role":"user","content":"<|im_end|><|im_start|>{{ x }}{% if %}"}])",
    };
    for (const std::string& messages : garbage) {
      Ask ask;
      ask.messages = messages;
      MustSurvive(client, ask, "messages " + messages.substr(0, 30), w);
    }
  });
}

void AbsurdNumbers(const Subject& s, const Report& wrong) {
  using Bend = std::function<void(cyllm_request&, cyllm_sampling&)>;
  static const cyllm_logit_bias kBias[] = {{-5, 1}, {2'000'000'000, 1}, {1, std::nanf("")}};
  static const int32_t kTokens[] = {-1, INT32_MAX, INT32_MIN};
  const std::pair<const char*, Bend> bends[] = {
      {"temperature -1", [](cyllm_request&, cyllm_sampling& p) { p.temperature = -1; }},
      {"an infinite temperature", [](cyllm_request&, cyllm_sampling& p) { p.temperature = HUGE_VAL; }},
      {"top_p 7", [](cyllm_request&, cyllm_sampling& p) { p.temperature = 1, p.top_p = 7; }},
      {"top_p -7", [](cyllm_request&, cyllm_sampling& p) { p.temperature = 1, p.top_p = -7; }},
      {"min_p 7", [](cyllm_request&, cyllm_sampling& p) { p.temperature = 1, p.min_p = 7; }},
      {"top_k of 2 billion",
       [](cyllm_request&, cyllm_sampling& p) { p.temperature = 1, p.top_k = INT32_MAX; }},
      {"penalties of 1e300",
       [](cyllm_request&, cyllm_sampling& p) { p.repetition_penalty = p.presence_penalty = 1e300; }},
      {"4 billion logprobs",
       [](cyllm_request&, cyllm_sampling& p) { p.logprobs = 1, p.top_logprobs = UINT32_MAX; }},
      {"4 billion tokens at least", [](cyllm_request&, cyllm_sampling& p) { p.min_tokens = UINT32_MAX; }},
      {"a bias of tokens that there are not",
       [](cyllm_request&, cyllm_sampling& p) { p.logit_bias = kBias, p.n_logit_bias = std::size(kBias); }},
      {"stop tokens that there are not",
       [](cyllm_request&, cyllm_sampling& p) {
         p.stop_token_ids = kTokens, p.n_stop_token_ids = std::size(kTokens);
       }},
      {"a prompt of tokens that there are not",
       [](cyllm_request& r, cyllm_sampling&) {
         r.kind = CYLLM_KIND_TOKENS, r.prompt_tokens = kTokens, r.n_prompt_tokens = std::size(kTokens);
       }},
      {"no prompt tokens", [](cyllm_request& r, cyllm_sampling&) { r.kind = CYLLM_KIND_TOKENS; }},
      {"a priority far off", [](cyllm_request& r, cyllm_sampling&) { r.priority = INT32_MIN; }},
      {"4 billion credits", [](cyllm_request& r, cyllm_sampling&) { r.credit = UINT32_MAX; }},
  };
  With(s, wrong, [&](Client& client, const Report& w) {
    for (const auto& [what, bend] : bends) {
      Ask ask;
      ask.bend = bend;
      MustSurvive(client, ask, what, w);
    }
  });
}

}  // namespace

std::vector<Check> AnswerChecks() {
  return {
      {"chats", Chats},
      {"kinds it has and has not", OtherKinds},
      {"choices", Choices},
      {"stop strings", StopStrings},
      {"logprobs", Logprobs},
      {"older and newer hosts", OlderAndNewerHosts},
      {"garbage as messages", GarbageMessages},
      {"absurd numbers", AbsurdNumbers},
  };
}

}  // namespace cyllm::engine_check
