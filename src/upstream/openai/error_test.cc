#include "upstream/openai/error.h"

#include <gtest/gtest.h>

#include "upstream/openai/discovery.h"

namespace cyllm::upstream {
namespace {

TEST(UpstreamError, TheClientsMistakesKeepTheServersWords) {
  const Status status = FromHttp(
      400,
      R"({"error":{"message":"temperature must be non-negative","type":"BadRequestError","param":"temperature","code":400}})",
      Millis(0));
  EXPECT_EQ(status, InvalidArgument("temperature must be non-negative", "temperature"));
  EXPECT_EQ(FromHttp(422, R"({"detail":[{"loc":["body"]}]})", Millis(0)).message, R"([{"loc":["body"]}])");
  EXPECT_EQ(FromHttp(400, "not json", Millis(0)).code, Code::kInvalidArgument);
  EXPECT_EQ(FromHttp(413, "", Millis(0)).reason, "request_too_large");
}

TEST(UpstreamError, APromptThatIsTooLongIsNamedSo) {
  for (
      const char* body :
      {R"({"error":{"message":"This model's maximum context length is 2048 tokens","code":400}})",
       R"({"error":{"message":"x","code":"context_length_exceeded"}})",
       R"({"error":{"message":"the request exceeds the available context size","type":"exceed_context_size_error","code":400}})"})
    EXPECT_EQ(FromHttp(400, body, Millis(0)).reason, "context_length_exceeded") << body;
}

TEST(UpstreamError, TheServersOwnTroubleIsRetryableAndNotShown) {
  std::string detail;
  Status status =
      FromHttp(500, R"({"error":{"message":"cannot schedule new futures after shutdown in /opt/x.py"}})",
               Millis(0), &detail);
  EXPECT_EQ(status.code, Code::kInternal);
  EXPECT_TRUE(status.retryable);
  EXPECT_EQ(status.message.find("/opt"), std::string::npos);
  EXPECT_NE(detail.find("/opt"), std::string::npos);
  status = FromHttp(503, "", Millis(7'000));
  EXPECT_EQ(status.code, Code::kUnavailable);
  EXPECT_EQ(status.retry_after, Millis(7'000));
  EXPECT_EQ(FromHttp(429, "", Millis(0)).reason, "overloaded");
  for (const int code : {502, 504}) EXPECT_TRUE(FromHttp(code, "<html>", Millis(0)).retryable);
}

TEST(UpstreamError, OurKeyIsNotTheClientsMistake) {
  const Status status = FromHttp(401, R"({"error":"Unauthorized"})", Millis(0));
  EXPECT_EQ(status.code, Code::kUnauthenticated);
  EXPECT_TRUE(status.retryable);
}

TEST(UpstreamError, AMissingRouteIsNoMissingModel) {
  EXPECT_EQ(FromHttp(404, R"({"detail":"Not Found"})", Millis(0)).code, Code::kUnimplemented);
  EXPECT_EQ(FromHttp(405, R"({"detail":"Method Not Allowed"})", Millis(0)).code, Code::kUnimplemented);
  const Status status = FromHttp(
      404,
      R"({"error":{"message":"The model `x` does not exist.","type":"NotFoundError","param":"model","code":404}})",
      Millis(0));
  EXPECT_EQ(status.code, Code::kNotFound);
  EXPECT_EQ(status.reason, "model_not_found");
}

TEST(UpstreamError, MessagesAreBoundedAndValid) {
  const std::string message(1'000'000, 'x');
  EXPECT_LE(FromHttp(400, "{\"error\":{\"message\":\"" + message + "\"}}", Millis(0)).message.size(), 2000u);
}

TEST(Discovery, Models) {
  const auto models = ReadModels(R"({"object":"list","data":[
    {"id":"smol","object":"model","created":5,"owned_by":"vllm","root":"/m","parent":null,"max_model_len":2048},
    {"id":"l1","owned_by":"vllm","parent":"smol"},
    {"id":"g","owned_by":"llamacpp","meta":{"n_ctx_train":8192}}, {"no":"id"}, 7]})");
  ASSERT_TRUE(models);
  ASSERT_EQ(models->size(), 3u);
  EXPECT_EQ((*models)[0], (ServedModel{"smol", "vllm", "", 2048, 5, "/m"}));
  EXPECT_EQ((*models)[1].parent, "smol");
  EXPECT_EQ((*models)[2].max_model_len, 8192u);
  EXPECT_EQ(ProfileOfOwner((*models)[2].owned_by)->name, "llama-server");
  EXPECT_EQ((*models)[2].identity, "n_ctx_train=8192 ");
  EXPECT_EQ(ProfileOfOwner("somebody"), nullptr);
  EXPECT_EQ(ProfileOfOwner(""), nullptr);
  for (const char* bad : {"", "[]", R"({"data":7})", "<html>"}) EXPECT_FALSE(ReadModels(bad)) << bad;
}

TEST(Discovery, LoadFromMetrics) {
  const char* text =
      "# HELP vllm:num_requests_running Number\n"
      "# TYPE vllm:num_requests_running gauge\n"
      "vllm:num_requests_running{engine=\"0\",model_name=\"a } b\\\"\"} 3.0\n"
      "vllm:num_requests_running{engine=\"1\"} 2\n"
      "vllm:num_requests_waiting{engine=\"0\"} 4.0\n"
      "vllm:num_requests_waiting_by_reason{reason=\"capacity\"} 100\n"
      "vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\n"
      "vllm:kv_cache_usage_perc{engine=\"1\"} 0.5\n"
      "broken{ 5\nvllm:num_requests_running{x=\"";
  const ImportedLoad load = ReadLoad(*FindProfile("vllm"), text);
  EXPECT_EQ(load.running, 5);
  EXPECT_EQ(load.waiting, 4);
  EXPECT_EQ(load.kv_usage, 0.5);
  EXPECT_FALSE(ReadLoad(*FindProfile("vllm"), "nothing 5\n").running);
  EXPECT_FALSE(ReadLoad(*FindProfile("openai"), text).running);
}

}  // namespace
}  // namespace cyllm::upstream
