// What an engine says it can do, it does; what it does not say, it refuses.
#include <cmath>

#include "worker/engine_check/checks.h"
#include "worker/engine_check/client.h"

namespace cyllm::engine_check {

namespace {

constexpr const char* kTool =
    R"([{"type":"function","function":{"name":"look","parameters":{"type":"object","properties":{}}}}])";

void Tools(const Subject& s, const Report& wrong) {
  Where(s, wrong, CYLLM_CAP_TOOLS, [](Client& client, const Report& w) {
    Ask ask;
    ask.tools = kTool;
    ask.tool_choice = R"({"type":"function","function":{"name":"look"}})";
    ask.max_tokens = 64;
    const Answer answer = client.Run(ask);
    if (answer.code != CYLLM_OK || answer.refused != CYLLM_OK) return w("a named tool: " + answer.message);
    const Choice& choice = answer.choices.at(0);
    if (choice.calls.size() != 1 || choice.calls[0].name != "look")
      return w("a named tool was not called once");
    if (choice.calls[0].arguments.find('{') != 0) w("arguments that are no object");
    if (choice.reason != CYLLM_FINISH_TOOL_CALLS) w("a call must finish with `tool_calls`");
    ask.tool_choice = R"("none")";
    const Answer none = client.Run(ask);
    if (none.code != CYLLM_OK) return w("tool_choice none: " + none.message);
    if (!none.choices.at(0).calls.empty()) w("tool_choice none, and a tool was called");
    for (const char* tools : {"{", "[7]", R"([{"type":"function","function":{}}])"}) {
      ask.tools = tools;
      ask.tool_choice.clear();
      const Answer bad = client.Run(ask);
      if (bad.refused == CYLLM_OK && bad.ends != 1) w("garbage as tools: no END");
    }
  });
}

void Schemas(const Subject& s, const Report& wrong) {
  Where(s, wrong, CYLLM_CAP_JSON_SCHEMA, [](Client& client, const Report& w) {
    Ask ask;
    ask.max_tokens = 32;
    ask.response_format =
        R"({"type":"json_schema","json_schema":{"name":"s","schema":{"enum":["left","right"]}}})";
    const Answer answer = client.Run(ask);
    if (answer.code != CYLLM_OK || answer.refused != CYLLM_OK) return w("a schema: " + answer.message);
    const std::string& text = answer.choices.at(0).text;
    if (text != "\"left\"" && text != "\"right\"") w("a schema was not held to: " + text);
    for (const char* format : {"{", "7", R"({"type":"wizard"})",
                               R"({"type":"json_schema","json_schema":{"schema":{"$ref":"#"}}})"}) {
      ask.response_format = format;
      const Answer bad = client.Run(ask);
      if (bad.refused == CYLLM_OK && bad.code != CYLLM_INVALID_ARGUMENT)
        w(std::string("must be refused as invalid: response_format ") + format);
    }
  });
}

void Resuming(const Subject& s, const Report& wrong) {
  Where(s, wrong, CYLLM_CAP_RESUME, [](Client& client, const Report& w) {
    Ask ask;
    ask.n = 2;
    ask.max_tokens = 8;
    ask.steps = true;
    const uint64_t id = client.Submit(ask);
    const Answer whole = client.Wait(id);
    if (whole.code != CYLLM_OK) return w("failed: " + whole.message);
    auto cuts = client.Steps(id);
    cuts.insert(cuts.begin(), {{}});
    for (auto& cut : cuts) {
      Ask rest = ask;
      for (uint32_t i = 0; i < ask.n; ++i) rest.resume.push_back({cut[i].tokens, cut[i].end});
      const Answer answer = client.Run(rest);
      if (answer.code != CYLLM_OK || answer.refused != CYLLM_OK) return w("resumed: " + answer.message);
      for (const auto& [i, choice] : whole.choices) {
        const Choice& got = answer.choices.at(i);
        if (cut[i].text + got.text != choice.text) return w("both parts together are another text");
        if (got.tokens != choice.tokens) return w("both parts together are other tokens");
        if (got.reason != choice.reason || got.completion_tokens != choice.completion_tokens)
          return w("it finishes in another way");
      }
    }
    Ask strange = ask;
    strange.resume = {{{1'000'000'000}, {1, 0, 0, 0}}, {{-5}, {1, 0, 0, 0}}};
    const Answer refused = client.Run(strange);
    if (refused.refused != CYLLM_INVALID_ARGUMENT && refused.code != CYLLM_INVALID_ARGUMENT)
      w("tokens that it has not must be refused as invalid");
  });
}

void Embeddings(const Subject& s, const Report& wrong) {
  Where(s, wrong, CYLLM_CAP_EMBED, [](Client& client, const Report& w) {
    Ask ask;
    ask.kind = CYLLM_KIND_EMBED;
    ask.messages.clear();
    ask.inputs = {"one", "two words", "one"};
    const Answer answer = client.Run(ask);
    if (answer.code != CYLLM_OK || answer.refused != CYLLM_OK) return w("embeddings: " + answer.message);
    if (answer.values.size() != 3) return w("not a vector of each input");
    for (const std::vector<float>& vector : answer.values) {
      double sum = 0;
      for (const float v : vector) sum += double{v} * v;
      if (std::abs(sum - 1) > 1e-3) w("a vector whose length is not 1");
    }
    ask.dimensions = 8;
    const Answer cut = client.Run(ask);
    if (cut.values.size() != 3 || cut.values[0].size() != 8) w("`dimensions` was not applied");
    ask.credit = 1;
    const uint64_t id = client.Submit(ask);
    client.Cancel(id);
    if (client.Wait(id).ends != 1) w("not one END after cancel");
    ask.inputs.clear();
    if (client.Run(ask).refused == CYLLM_OK) w("no inputs must be refused");
  });
}

void TokensAndTexts(const Subject& s, const Report& wrong) {
  Where(s, wrong, CYLLM_CAP_TOKENIZE, [](Client& client, const Report& w) {
    Ask ask;
    ask.kind = CYLLM_KIND_TOKENIZE;
    ask.messages.clear();
    ask.prompt = "one two";
    const Answer there = client.Run(ask);
    if (there.code != CYLLM_OK || there.choices.empty()) return w("tokenize: " + there.message);
    if (there.choices.at(0).tokens.empty()) return w("no tokens of a text");
    Ask back;
    back.kind = CYLLM_KIND_DETOKENIZE;
    back.messages.clear();
    back.tokens = there.choices.at(0).tokens;
    const Answer text = client.Run(back);
    if (text.code != CYLLM_OK || text.choices.empty()) return w("detokenize: " + text.message);
    back.tokens = {-1, 2'000'000'000};
    if (client.Run(back).refused == CYLLM_OK) w("tokens that it has not must be refused");
  });
}

}  // namespace

std::vector<Check> CapabilityChecks() {
  return {
      {"tools", Tools},
      {"schemas", Schemas},
      {"resuming", Resuming},
      {"embeddings", Embeddings},
      {"tokens and texts", TokensAndTexts},
  };
}

}  // namespace cyllm::engine_check
