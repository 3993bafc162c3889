// Answers of servers as they are on the wire (samples/README.md says which are recorded), read whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "upstream/openai/answer.h"
#include "upstream/openai/discovery.h"
#include "upstream/openai/error.h"
#include "upstream/openai/sse.h"

namespace cyllm::upstream {
namespace {

using testing::HasSubstr;
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

TEST_P(Samples, AreReadWhole) {
  const Sample& want = GetParam();
  const std::string file = want.file;
  const Profile* profile = FindProfile(file.substr(0, file.find('/')));
  ASSERT_TRUE(profile);
  SseParser sse(1 << 20);
  std::vector<std::string> data;
  ASSERT_TRUE(sse.Feed(File(file), data));
  StreamAnswer answer({.kind = want.kind,
                       .choices = want.choices,
                       .worker = "w",
                       .usage_per_choice = profile->usage_per_choice});
  Batch events;
  for (const std::string& event : data) {
    const Status status = answer.OnData(event, TimePoint{}, events);
    ASSERT_TRUE(status.ok()) << status.ToString() << event;
  }
  EXPECT_TRUE(answer.done());
  const Status end = answer.OnEnd(events);
  ASSERT_TRUE(end.ok()) << end.ToString();

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

// By documentation.
INSTANTIATE_TEST_SUITE_P(
    Others, Samples,
    testing::Values(
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
        Sample{.file = "ollama/chat.sse", .text = "Hello you", .reason = kStop, .usage = {26, 0, 3, 0}},
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
  EXPECT_EQ(of(422, "mindie/error.json").message, "Messages field must not be null.");
}

TEST(RefusalSamples, OnAStream) {
  SseParser sse(1 << 20);
  std::vector<std::string> data;
  ASSERT_TRUE(sse.Feed(File("sglang/error.sse"), data));
  StreamAnswer answer({.worker = "w"});
  Batch events;
  EXPECT_TRUE(answer.OnData(data[0], TimePoint{}, events).ok());
  EXPECT_EQ(answer.OnData(data[1], TimePoint{}, events).reason, "overloaded");
}

TEST(DiscoverySamples, TellTheServerAndItsModels) {
  for (const char* name : {"llama-server", "cy-llm", "sglang", "trtllm", "ollama"}) {
    const auto models = ReadModels(File(std::string(name) + "/models.json"));
    ASSERT_TRUE(models && !models->empty()) << name;
    ASSERT_TRUE(ProfileOfOwner(models->front().owned_by)) << name;
    EXPECT_EQ(ProfileOfOwner(models->front().owned_by)->name, name);
  }
  EXPECT_EQ(ReadModels(File("llama-server/models.json"))->front().max_model_len, 2048u);
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
