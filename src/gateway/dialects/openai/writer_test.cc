
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "gateway/dialects/openai/error.h"
#include "gateway/dialects/openai/openai.h"

namespace cyllm::openai {
namespace {

namespace json = boost::json;

using dialect::ApiError;
using dialect::Writer;

std::unique_ptr<Writer> Chunks(const std::string& extra = "", dialect::ResponseInfo info = {"x", 1, "t"}) {
  return ParseChat(R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}])" + extra + "}",
                   {})
      ->writer(std::move(info));
}

std::unique_ptr<Writer> Whole(dialect::ResponseInfo info = {"x", 1, "t"}) {
  return ParseChat(R"({"model":"m","messages":[{"role":"user","content":"hi"}]})", {})
      ->writer(std::move(info));
}

json::value BodyOf(Writer& writer) {
  std::string out;
  writer.End(out);
  return json::parse(out);
}

void Add(Writer& writer, const Event& event) {
  std::string out;
  writer.Write(event, out);
  EXPECT_EQ(out, "");
}

Finished Finish(uint32_t choice, FinishReason reason = FinishReason::kStop) {
  return {choice, reason, "", {7, 2, 5, 0}, {1, 10, 90}};
}

std::vector<json::value> Frames(const std::string& sse) {
  std::vector<json::value> frames;
  size_t at = 0;
  while (at < sse.size()) {
    const size_t end = sse.find("\n\n", at);
    EXPECT_EQ(sse.substr(at, 6), "data: ");
    const std::string data = sse.substr(at + 6, end - at - 6);
    EXPECT_EQ(data.find('\n'), std::string::npos);
    if (data != "[DONE]") frames.push_back(json::parse(data));
    at = end + 2;
  }
  return frames;
}

TEST(ChunkWriterTest, AWholeStream) {
  const auto writer = Chunks(R"(,"n":2,"stream_options":{"include_usage":true})", {"chatcmpl-1", 99, "t"});
  std::string out;
  writer->Start(out);
  writer->Write(TextDelta{0, "He\"l\n", {1}, {}, {1, 5}}, out);
  writer->Write(TextDelta{1, "", {1}, {}, {1, 0}}, out);  // shows nothing: no chunk
  writer->Write(Finish(0), out);
  writer->Write(Finish(1, FinishReason::kLength), out);
  writer->End(out);
  EXPECT_TRUE(out.ends_with("data: [DONE]\n\n"));
  const auto frames = Frames(out);
  ASSERT_EQ(frames.size(), 6u);
  for (const json::value& frame : frames) {
    EXPECT_EQ(frame.at("id"), "chatcmpl-1");
    EXPECT_EQ(frame.at("object"), "chat.completion.chunk");
    EXPECT_EQ(frame.at("created"), 99);
    EXPECT_EQ(frame.at("model"), "m");
  }
  EXPECT_EQ(frames[0].at("choices").at(0).at("index"), 0);
  EXPECT_EQ(frames[0].at("choices").at(0).at("delta"), (json::value{{"role", "assistant"}, {"content", ""}}));
  EXPECT_EQ(frames[1].at("choices").at(0).at("index"), 1);
  EXPECT_EQ(frames[2].at("choices").at(0).at("delta").at("content"), "He\"l\n");
  EXPECT_TRUE(frames[2].at("usage").is_null());
  EXPECT_TRUE(frames[2].at("choices").at(0).at("finish_reason").is_null());
  EXPECT_EQ(frames[3].at("choices").at(0).at("finish_reason"), "stop");
  EXPECT_TRUE(frames[3].at("choices").at(0).at("delta").as_object().empty());
  EXPECT_EQ(frames[4].at("choices").at(0).at("finish_reason"), "length");
  EXPECT_TRUE(frames[5].at("choices").as_array().empty());
  EXPECT_EQ(frames[5].at("usage").at("prompt_tokens"), 7);  // once, for two choices
  EXPECT_EQ(frames[5].at("usage").at("completion_tokens"), 10);
  EXPECT_EQ(frames[5].at("usage").at("total_tokens"), 17);
  EXPECT_EQ(frames[5].at("usage").at("prompt_tokens_details").at("cached_tokens"), 2);
}

TEST(ChunkWriterTest, UsageSoFarInEveryChunk) {
  const auto writer =
      Chunks(R"(,"stream_options":{"include_usage":true,"continuous_usage_stats":true})", {"x", 1, "t"});
  std::string out;
  writer->Start(out);
  writer->Write(Accepted{7}, out);
  writer->Write(TextDelta{0, "a", {1}, {}, {1, 1}}, out);
  writer->Write(TextDelta{0, "b", {1, 2}, {}, {3, 2}}, out);
  writer->Write(Finish(0), out);
  writer->End(out);
  std::vector<std::pair<int64_t, int64_t>> usage;
  for (const json::value& frame : Frames(out))
    usage.emplace_back(frame.at("usage").at("prompt_tokens").to_number<int64_t>(),
                       frame.at("usage").at("completion_tokens").to_number<int64_t>());
  EXPECT_EQ(usage, (std::vector<std::pair<int64_t, int64_t>>{{0, 0}, {7, 1}, {7, 3}, {7, 5}, {7, 5}}));
}

TEST(ChunkWriterTest, NoUsageUnlessAsked) {
  const auto writer = Chunks("", {"x", 1, "t"});
  std::string out;
  writer->Start(out);
  writer->Write(Finish(0), out);
  writer->End(out);
  EXPECT_EQ(out.find("usage"), std::string::npos);
}

TEST(ChunkWriterTest, LogprobsOfAToken) {
  const auto writer = Chunks(R"(,"logprobs":true,"top_logprobs":1)", {"x", 1, "t"});
  TextDelta delta{0, "é", {5}, {{5, "\xc3\xa9", -0.5f, {{6, "e", -1.5f, {}}}}}, {1, 2}};
  std::string out;
  writer->Write(delta, out);
  const auto frames = Frames(out);
  const json::value& entry = frames.at(0).at("choices").at(0).at("logprobs").at("content").at(0);
  EXPECT_EQ(entry.at("token"), "é");
  EXPECT_EQ(entry.at("logprob"), -0.5);
  EXPECT_EQ(entry.at("bytes"), (json::value{195, 169}));
  EXPECT_EQ(entry.at("top_logprobs").at(0).at("token"), "e");
}

TEST(ChunkWriterTest, CompletionChunks) {
  const auto writer =
      ParseCompletion(R"({"model":"m","prompt":"p","stream":true})", {})->writer({"cmpl-1", 1, "t"});
  std::string out;
  writer->Start(out);
  EXPECT_EQ(out, "");
  writer->Write(TextDelta{0, "abc", {1}, {}, {1, 3}}, out);
  const auto frames = Frames(out);
  EXPECT_EQ(frames.at(0).at("object"), "text_completion");
  EXPECT_EQ(frames.at(0).at("choices").at(0).at("text"), "abc");
}

TEST(BodyWriterTest, ChatBody) {
  const auto writer = Whole({"chatcmpl-1", 99, "trace"});
  Add(*writer, Accepted{7, 2, "w"});
  Add(*writer, TextDelta{0, "a", {1}, {}, {1, 1}});
  Add(*writer, TextDelta{0, "b", {2}, {}, {2, 2}});
  Add(*writer, Finish(0));
  const json::value body = BodyOf(*writer);
  EXPECT_EQ(body.at("object"), "chat.completion");
  EXPECT_EQ(body.at("choices").at(0).at("message"),
            (json::value{{"role", "assistant"}, {"content", "ab"}, {"refusal", nullptr}}));
  EXPECT_EQ(body.at("performance").at("trace_id"), "trace");
  EXPECT_EQ(body.at("performance").at("ttft_ms"), 10.0);
  EXPECT_EQ(body.at("performance").at("tps"), 50.0);  // 5 tokens in 100 ms
}

TEST(BodyWriterTest, ToolCallsAreJoined) {
  const auto writer = Whole({"x", 1, "t"});
  Add(*writer, ToolCallDelta{0, 0, "call_1", "f", "{\"a\"", {}, {}});
  Add(*writer, ToolCallDelta{0, 0, "", "", ":1}", {}, {}});
  Add(*writer, Finish(0, FinishReason::kToolCalls));
  const json::value message = BodyOf(*writer).at("choices").at(0).at("message");
  EXPECT_TRUE(message.at("content").is_null());
  EXPECT_EQ(message.at("tool_calls").at(0).at("function").at("arguments"), "{\"a\":1}");
  EXPECT_EQ(message.at("tool_calls").at(0).at("id"), "call_1");
}

TEST(BodyWriterTest, CompletionLogprobs) {
  const auto writer = ParseCompletion(R"({"prompt":"p","logprobs":1})", {})->writer({"x", 1, "t"});
  Add(*writer, TextDelta{0, "ab", {1}, {{1, "ab", -1, {{1, "ab", -1, {}}}}}, {1, 2}});
  Add(*writer, TextDelta{0, "c", {2}, {{2, "c", -2, {{2, "c", -2, {}}}}}, {2, 3}});
  Add(*writer, Finish(0));
  const json::value logprobs = BodyOf(*writer).at("choices").at(0).at("logprobs");
  EXPECT_EQ(logprobs.at("tokens"), (json::value{"ab", "c"}));
  EXPECT_EQ(logprobs.at("text_offset"), (json::value{0, 2}));
  EXPECT_EQ(logprobs.at("top_logprobs").at(1).at("c"), -2);
}

TEST(ErrorTest, Table) {
  const std::tuple<Status, int, const char*, const char*> kTable[] = {
      {InvalidArgument("m", "n"), 400, "invalid_request_error", ""},
      {InvalidArgument("m", "", "context_length_exceeded"), 400, "invalid_request_error",
       "context_length_exceeded"},
      {InvalidArgument("m", "", "request_too_large"), 413, "invalid_request_error", "request_too_large"},
      {MakeStatus(Code::kUnimplemented, "m"), 400, "invalid_request_error", "unsupported"},
      {MakeStatus(Code::kNotFound, "m"), 404, "invalid_request_error", "model_not_found"},
      {MakeStatus(Code::kResourceExhausted, "m"), 503, "unavailable_error", "server_overloaded"},
      {MakeStatus(Code::kResourceExhausted, "m", "rate_limit_exceeded"), 429, "rate_limit_error",
       "rate_limit_exceeded"},
      {Unavailable("m"), 503, "unavailable_error", "unavailable"},
      {MakeStatus(Code::kDeadlineExceeded, "m"), 504, "server_error", "timeout"},
      {MakeStatus(Code::kInternal, "m"), 500, "server_error", "internal_error"},
      {MakeStatus(Code::kUnauthenticated, "Invalid internal token"), 500, "server_error", "internal_error"},
  };
  for (const auto& [status, http, type, code] : kTable) {
    const ApiError error = dialect::FromStatus(status);
    EXPECT_EQ(error.http, http) << status.ToString();
    EXPECT_EQ(error.type, type);
    EXPECT_EQ(error.code, code);
    const json::value body = json::parse(ErrorBody(error)).at("error");
    EXPECT_EQ(body.as_object().size(), 4u);
    EXPECT_EQ(body.at("message").as_string().find("token"), std::string::npos);
  }
}

TEST(ErrorTest, TheContextIsExceededWithNumbersAndWords) {
  const std::tuple<const char*, uint64_t, uint64_t> kTable[] = {
      {"this model's maximum context length is 512 tokens; the prompt has 600 and exceeds the available "
       "context size",
       600, 512},
      {"request (9033 tokens) exceeds the available context size (2048 tokens), try increasing it", 9033,
       2048},
      {"The input (40000 tokens) is longer than the model's context length (32768 tokens).", 40'000, 32'768},
      {"input 0 has 600 tokens; at most 512 can be taken", 600, 512},
      {"maximum context length is 512 tokens; the prompt has 512.", 512, 512},
      {"This model's maximum context length is 8192 tokens.", 0, 8192},
      {"too long, by 99999999999999999999999", 0, 0},
      {"maximum context length is x", 0, 0},
  };
  for (const auto& [message, prompt, context] : kTable) {
    const ApiError error = dialect::FromStatus(InvalidArgument(message, "", "context_length_exceeded"));
    EXPECT_EQ(error.prompt_tokens, prompt) << message;
    EXPECT_EQ(error.context_length, context) << message;
    const json::object body = json::parse(ErrorBody(error)).at("error").as_object();
    EXPECT_EQ(body.contains("n_prompt_tokens"), prompt > 0);
    EXPECT_EQ(body.contains("n_ctx"), context > 0);
    if (context == 0) continue;
    EXPECT_EQ(body.at("n_ctx"), context);
    EXPECT_NE(error.message.find("maximum context length is " + std::to_string(context) + " tokens"),
              std::string::npos);
    EXPECT_NE(error.message.find("exceeds the available context size"), std::string::npos);
  }
  EXPECT_EQ(dialect::FromStatus(InvalidArgument("maximum context length is 5 of 6")).context_length, 0u);
}

TEST(ChunkWriterTest, AServersOwnChunkGoesOnAsItCame) {
  EXPECT_TRUE(ParseChat(R"({"stream":true,"messages":[{"role":"user","content":"a"}]})", {})
                  ->requests.front()
                  .facts.verbatim);
  EXPECT_FALSE(
      ParseChat(R"({"messages":[{"role":"user","content":"a"}]})", {})->requests.front().facts.verbatim);
  const auto of = [](const char* extra) {
    const auto writer = Chunks(extra, {"chatcmpl-1", 99, "t"});
    std::string out;
    TextDelta text{0, "a", {}, {}, {}, R"("choices":[{"index":0,"delta":{"content":"a"},"x":1}],"y":1e2)"};
    writer->Write(text, out);
    Finished end = Finish(0);
    end.chunk = R"("choices":[{"index":0,"delta":{},"finish_reason":"stop"}])";
    end.usage_chunk = R"("choices":[],"usage":{"cost":0.10},"z":1)";
    writer->Write(end, out);
    writer->End(out);
    return out;
  };
  const std::string head =
      R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":99,"model":"m",)";
  EXPECT_EQ(of(""), head + R"("choices":[{"index":0,"delta":{"content":"a"},"x":1}],"y":1e2})" + "\n\n" +
                        head + R"("choices":[{"index":0,"delta":{},"finish_reason":"stop"}]})" +
                        "\n\ndata: [DONE]\n\n");
  const std::string out = of(R"(,"stream_options":{"include_usage":true})");
  const std::vector<json::value> frames = Frames(out);
  ASSERT_EQ(frames.size(), 3u);
  EXPECT_TRUE(frames[0].at("usage").is_null());
  EXPECT_NE(out.find(R"("usage":{"cost":0.10},"z":1,"performance":{)"), out.npos);
}

TEST(ChunkWriterTest, OneOfSeveralPromptsIsWrittenAnew) {
  const auto call = ParseCompletion(R"({"stream":true,"prompt":["a","b"]})", {});
  ASSERT_EQ(call->requests.size(), 2u);
  for (const Request& request : call->requests) EXPECT_FALSE(request.facts.verbatim);
  EXPECT_TRUE(ParseCompletion(R"({"stream":true,"prompt":"a"})", {})->requests.front().facts.verbatim);
}

}  // namespace
}  // namespace cyllm::openai
