// Answers of servers as they are on the wire (samples/README.md says which are recorded), read whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <fstream>
#include <iterator>

#include "upstream/openai/answer.h"
#include "upstream/openai/continuation.h"
#include "upstream/openai/discovery.h"
#include "upstream/openai/error.h"
#include "upstream/openai/sse.h"

namespace cyllm::upstream {
namespace {

namespace json = boost::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

std::string File(const std::string& name) {
  std::ifstream in(std::string(CY_SAMPLES) + "/" + name);
  EXPECT_TRUE(in) << name;
  return {std::istreambuf_iterator<char>(in), {}};
}

struct Sample {
  const char* file;  // its folder is its profile
  Kind kind = Kind::kChat;
  uint32_t choices = 1;
  const char* text = "";  // of each choice
  FinishReason reason = FinishReason::kLength;
  Usage usage{};  // completion tokens: of all choices
  const char* reasoning = "";
  const char* call = "";  // name and arguments
  size_t logprobs = 0;    // of the first choice
};

void PrintTo(const Sample& sample, std::ostream* out) { *out << sample.file; }

class Samples : public testing::TestWithParam<Sample> {};

Batch ReadWhole(const Sample& sample, bool verbatim) {
  const std::string file = sample.file;
  const Profile* profile = FindProfile(file.substr(0, file.find('/')));
  EXPECT_TRUE(profile);
  SseParser sse(1 << 20);
  std::vector<std::string> data;
  EXPECT_TRUE(sse.Feed(File(file), data));
  StreamAnswer answer({.kind = sample.kind,
                       .choices = sample.choices,
                       .worker = "w",
                       .usage_per_choice = profile->usage_per_choice,
                       .verbatim = verbatim,
                       .hidden = {.token_ids = profile->token_ids}});
  Batch events;
  for (const std::string& event : data) {
    const Status status = answer.OnData(event, TimePoint{}, events);
    EXPECT_TRUE(status.ok()) << status.ToString() << event;
  }
  EXPECT_TRUE(answer.done());
  const Status end = answer.OnEnd(events);
  EXPECT_TRUE(end.ok()) << end.ToString();
  return events;
}

// What a client reads of a chunk that goes on as it came.
std::string Said(const std::string& members, bool chat) {
  const json::value chunk = json::parse('{' + members + '}');
  EXPECT_FALSE(chunk.get_object().contains("id"));
  const json::object& choice = chunk.at("choices").as_array().at(0).as_object();
  EXPECT_FALSE(choice.contains("token_ids"));
  if (!chat) return std::string(choice.at("text").as_string());
  const json::object& delta = choice.at("delta").as_object();
  EXPECT_FALSE(delta.contains("role"));
  const json::value* content = delta.if_contains("content");
  return content && content->is_string() ? std::string(content->get_string()) : "";
}

TEST_P(Samples, GoOnAsTheyCame) {
  const Sample& sample = GetParam();
  Batch events = ReadWhole(sample, true);
  size_t kept = 0;
  for (Event& event : events) {
    if (auto* text = std::get_if<TextDelta>(&event); text && !text->chunk.empty()) {
      EXPECT_EQ(Said(text->chunk, sample.kind == Kind::kChat), text->text);
      EXPECT_THAT(text->chunk, Not(HasSubstr(R"("finish_reason":")")));
      ++kept;
    }
    if (auto* finished = std::get_if<Finished>(&event)) {
      EXPECT_EQ(Said(finished->chunk, sample.kind == Kind::kChat), "");
      EXPECT_EQ(finished->usage_chunk.empty(), sample.choices > 1) << finished->usage_chunk;
      ++kept;
    }
    std::visit(
        [](auto& e) {
          if constexpr (requires { e.chunk; }) e.chunk.clear();
          if constexpr (requires { e.usage_chunk; }) e.usage_chunk.clear();
        },
        event);
  }
  EXPECT_GE(kept, sample.call[0] ? 1u : 2u);
  EXPECT_EQ(events, ReadWhole(sample, false));
}

TEST_P(Samples, AreReadWhole) {
  const Sample& want = GetParam();
  const Batch events = ReadWhole(want, false);
  std::vector<std::string> texts(want.choices);
  std::string reasoning, call;
  size_t logprobs = 0;
  std::vector<Finished> finished;
  for (const Event& event : events) {
    if (const auto* t = std::get_if<TextDelta>(&event)) {
      texts[t->choice] += t->text;
      if (t->choice == 0) logprobs += t->logprobs.size();
    }
    if (const auto* r = std::get_if<ReasoningDelta>(&event)) reasoning += r->text;
    if (const auto* c = std::get_if<ToolCallDelta>(&event)) call += c->name + c->arguments;
    if (const auto* f = std::get_if<Finished>(&event)) finished.push_back(*f);
  }
  ASSERT_THAT(finished, SizeIs(want.choices));
  Usage usage = finished[0].usage;
  for (size_t i = 1; i < finished.size(); ++i) usage.completion_tokens += finished[i].usage.completion_tokens;
  EXPECT_EQ(usage.prompt_tokens, want.usage.prompt_tokens);
  EXPECT_EQ(usage.cached_tokens, want.usage.cached_tokens);
  EXPECT_EQ(usage.completion_tokens, want.usage.completion_tokens);
  for (uint32_t i = 0; i < want.choices; ++i) {
    EXPECT_EQ(texts[i], want.text);
    EXPECT_EQ(finished[i].reason, want.reason);
    EXPECT_GT(finished[i].usage.completion_tokens, 0u);  // each has its share
  }
  EXPECT_EQ(reasoning, want.reasoning);
  EXPECT_EQ(call, want.call);
  EXPECT_EQ(logprobs, want.logprobs);
}

constexpr auto kStop = FinishReason::kStop, kCalls = FinishReason::kToolCalls;
INSTANTIATE_TEST_SUITE_P(
    LlamaServer, Samples,
    testing::Values(
        Sample{.file = "llama-server/chat.sse", .text = "Hello there,", .usage = {35, 34, 3, 0}},
        Sample{.file = "llama-server/chat_logprobs.sse",
               .text = "Hello there",
               .usage = {35, 34, 2, 0},
               .logprobs = 2},
        Sample{.file = "llama-server/n.sse", .choices = 2, .text = "Hello there", .usage = {35, 34, 4, 0}},
        Sample{
            .file = "llama-server/completion.sse", .kind = Kind::kText, .text = "-to", .usage = {2, 0, 2, 0}},
        Sample{.file = "llama-server/completion_logprobs.sse",
               .kind = Kind::kText,
               .text = "-to",
               .usage = {2, 1, 2, 0},
               .logprobs = 2},
        Sample{.file = "llama-server/tools.sse",
               .reason = kCalls,
               .usage = {404, 201, 29, 0},
               .call = R"(weather{"city": "Paris"})"},
        Sample{.file = "llama-server/stop.sse", .text = "Hell", .reason = kStop, .usage = {35, 34, 1, 0}}));

INSTANTIATE_TEST_SUITE_P(
    CyLlm, Samples,
    testing::Values(Sample{.file = "cy-llm/chat.sse", .text = "Say hello. Say", .usage = {2, 0, 3, 0}},
                    Sample{.file = "cy-llm/n.sse", .choices = 2, .text = "Say hello.", .usage = {2, 0, 4, 0}},
                    Sample{.file = "cy-llm/completion.sse",
                           .kind = Kind::kText,
                           .text = "one two",
                           .usage = {2, 0, 2, 0}},
                    Sample{.file = "cy-llm/tools.sse",
                           .reason = kCalls,
                           .usage = {27, 0, 2, 0},
                           .call = R"(weather{"city":"Paris"})"}));

INSTANTIATE_TEST_SUITE_P(
    Vllm, Samples,
    testing::Values(
        Sample{.file = "vllm/chat.sse", .text = "Hello! I", .usage = {33, 0, 3, 0}},
        Sample{.file = "vllm/chat_ids.sse", .text = "Hello! I", .usage = {33, 0, 3, 0}},
        Sample{.file = "vllm/chat_logprobs.sse", .text = "Hello! I", .usage = {33, 0, 3, 0}, .logprobs = 3},
        Sample{.file = "vllm/n.sse", .choices = 2, .text = "Hello! I", .usage = {33, 0, 6, 0}},
        Sample{.file = "vllm/completion.sse", .kind = Kind::kText, .text = "-to-", .usage = {2, 0, 3, 0}},
        Sample{
            .file = "vllm/completion_ids.sse", .kind = Kind::kTokens, .text = "-to-", .usage = {2, 0, 3, 0}},
        Sample{.file = "vllm/completion_logprobs.sse",
               .kind = Kind::kText,
               .text = "-to-",
               .usage = {2, 0, 3, 0},
               .logprobs = 3},
        Sample{.file = "vllm/stop.sse", .text = "Hell", .reason = kStop, .usage = {33, 0, 1, 0}},
        Sample{.file = "vllm/tools.sse", .usage = {33, 0, 48, 0}, .call = R"(weather{"city": "Paris"})"}));

// By documentation.
INSTANTIATE_TEST_SUITE_P(
    Others, Samples,
    testing::Values(
        Sample{.file = "openai/chat.sse", .text = "Hello you", .reason = kStop, .usage = {9, 4, 3, 0}},
        Sample{.file = "openai/tools.sse",
               .reason = kCalls,
               .usage = {82, 0, 17, 0},
               .call = R"(weather{"city":"Paris"})"},
        Sample{.file = "sglang/chat.sse",
               .text = "Hello you",
               .reason = kStop,
               .usage = {9, 8, 4, 0},
               .reasoning = "Hm."},
        Sample{.file = "sglang/tools.sse",
               .reason = kCalls,
               .usage = {9, 0, 4, 0},
               .call = R"(weather{"city": "Paris"})"},
        Sample{.file = "trtllm/chat.sse", .text = "Hello you", .reason = kStop, .usage = {9, 8, 2, 0}},
        Sample{.file = "ollama/chat.sse", .text = "I'm so", .usage = {12, 0, 3, 0}},
        Sample{.file = "ollama/completion.sse",
               .kind = Kind::kText,
               .text = "The original sentence",
               .usage = {11, 0, 3, 0}},
        Sample{.file = "ollama/tools.sse",
               .reason = kCalls,
               .usage = {26, 0, 20, 0},
               .call = R"(weather{"city":"Paris"})"},
        Sample{.file = "mindie/chat.sse", .text = "Hello you", .usage = {54, 0, 2, 0}}));

TEST(RefusalSamples, AreSaidAsWhatTheyAre) {
  const auto of = [](int status, const char* file) { return FromHttp(status, File(file), Millis(0)); };
  Status s = of(400, "llama-server/too_long.json");
  EXPECT_EQ(s.reason, "context_length_exceeded");
  EXPECT_THAT(s.message, HasSubstr("9033 tokens"));
  s = of(400, "llama-server/bad_token.json");
  EXPECT_EQ(s.code, Code::kInvalidArgument);
  EXPECT_EQ(s.message, "Prompt contains invalid tokens");
  EXPECT_EQ(of(501, "llama-server/no_embeddings.json").reason, "unsupported");
  EXPECT_EQ(of(404, "llama-server/no_route.json").reason, "unsupported");
  s = of(503, "llama-server/loading.json");
  EXPECT_EQ(s.code, Code::kUnavailable);
  EXPECT_TRUE(s.retryable);
  EXPECT_EQ(of(400, "sglang/too_long.json").reason, "context_length_exceeded");
  EXPECT_EQ(of(400, "trtllm/error.json").code, Code::kInvalidArgument);
  EXPECT_EQ(of(404, "ollama/no_model.json").reason, "model_not_found");
  EXPECT_THAT(of(400, "ollama/no_tools.json").message, HasSubstr("does not support tools"));
  EXPECT_EQ(of(422, "mindie/error.json").message, "Messages field must not be null.");
  s = of(503, "vllm/overloaded.json");
  EXPECT_EQ(s.reason, "overloaded");
  EXPECT_TRUE(s.retryable);
  EXPECT_EQ(of(400, "vllm/too_long.json").reason, "context_length_exceeded");
  EXPECT_EQ(of(400, "vllm/bad_temperature.json").param, "temperature");
  EXPECT_EQ(of(400, "vllm/no_messages.json").code, Code::kInvalidArgument);
  EXPECT_EQ(of(404, "vllm/no_model.json").reason, "model_not_found");
  EXPECT_EQ(of(404, "vllm/no_route.json").reason, "unsupported");
  EXPECT_EQ(of(404, "vllm/no_embeddings.json").reason, "unsupported");
  EXPECT_EQ(of(404, "openai/no_model.json").reason, "model_not_found");
  EXPECT_EQ(of(400, "openai/too_long.json").reason, "context_length_exceeded");
  EXPECT_EQ(of(429, "openai/rate_limit.json").reason, "overloaded");
  EXPECT_EQ(of(401, "openai/bad_key.json").reason, "upstream_auth");
}

// The error of a stream whose status was 200, after so many events.
Status ErrorOf(const char* file, size_t events_before) {
  SseParser sse(1 << 20);
  std::vector<std::string> data;
  EXPECT_TRUE(sse.Feed(File(file), data));
  StreamAnswer answer({.worker = "w"});
  Batch events;
  for (size_t i = 0; i < events_before; ++i) EXPECT_TRUE(answer.OnData(data[i], TimePoint{}, events).ok());
  return answer.OnData(data.at(events_before), TimePoint{}, events);
}

TEST(RefusalSamples, OnAStream) {
  EXPECT_EQ(ErrorOf("sglang/error.sse", 1).reason, "overloaded");
  EXPECT_EQ(ErrorOf("vllm/bad_token.sse", 0).code, Code::kInvalidArgument);
  const Status dead = ErrorOf("vllm/dead.sse", 2);
  EXPECT_EQ(dead.reason, "upstream_failed");
  EXPECT_TRUE(dead.retryable);
}

TEST(IdSamples, PromptsAndAnswers) {
  for (const char* name : {"vllm", "llama-server"}) {
    const auto ids = ReadPromptIds(File(std::string(name) + "/tokenize.json"));
    ASSERT_TRUE(ids) << name;
    EXPECT_THAT(*ids, SizeIs(testing::Gt(1u))) << name;
  }
  std::vector<int32_t> said;
  for (const Event& event : ReadWhole({.file = "vllm/chat_ids.sse"}, false))
    if (const auto* text = std::get_if<TextDelta>(&event))
      said.insert(said.end(), text->token_ids.begin(), text->token_ids.end());
  EXPECT_THAT(said, ElementsAre(19556, 17, 339));
}

TEST(DiscoverySamples, TellTheServerAndItsModels) {
  for (const char* name : {"vllm", "llama-server", "cy-llm", "sglang", "trtllm", "ollama"}) {
    const auto models = ReadModels(File(std::string(name) + "/models.json"));
    ASSERT_TRUE(models && !models->empty()) << name;
    ASSERT_TRUE(ProfileOfOwner(models->front().owned_by)) << name;
    EXPECT_EQ(ProfileOfOwner(models->front().owned_by)->name, name);
  }
  const auto plain = ReadModels(File("openai/models.json"));
  ASSERT_TRUE(plain && !plain->empty());
  EXPECT_FALSE(ProfileOfOwner(plain->front().owned_by));  // the `openai` profile is for all others
  EXPECT_EQ(ReadModels(File("llama-server/models.json"))->front().max_model_len, 2048u);
  const ImportedLoad vllm = ReadLoad(*FindProfile("vllm"), File("vllm/metrics.txt"));
  EXPECT_EQ(vllm.running, 0);
  EXPECT_EQ(vllm.waiting, 0);
  EXPECT_EQ(vllm.kv_usage, 0);
  EXPECT_EQ(ReadModels(File("vllm/models.json"))->front().max_model_len, 2048u);
  const ImportedLoad sglang = ReadLoad(*FindProfile("sglang"), File("sglang/metrics.txt"));
  EXPECT_EQ(sglang.running, 3);
  EXPECT_EQ(sglang.waiting, 2);
  EXPECT_EQ(sglang.kv_usage, 0.28);
  const ImportedLoad llama = ReadLoad(*FindProfile("llama-server"), File("llama-server/metrics.txt"));
  EXPECT_EQ(llama.running, 0);
  EXPECT_EQ(llama.waiting, 0);
}

}  // namespace
}  // namespace cyllm::upstream
