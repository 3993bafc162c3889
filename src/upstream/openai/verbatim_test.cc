#include "upstream/openai/verbatim.h"

#include <gtest/gtest.h>

namespace cyllm::upstream {
namespace {

TEST(Verbatim, ADeltaKeepsAllButWhatIsOurs) {
  EXPECT_EQ(
      DeltaMembers(
          R"({"id":"a","choices": [ {"index":0, "delta":{"content":"\"}],x","new":[1.0,{"a":"]"}]},"logprobs":null,"finish_reason":null,"token_ids":[7],"more":1e2} ],"created":1,"object":"o","model":"m","usage":null,"prompt_token_ids":[1],"system_fingerprint":"f"})",
          {.token_ids = true}, false),
      R"("choices": [{"index":0,"delta":{"content":"\"}],x","new":[1.0,{"a":"]"}]},"logprobs":null,"finish_reason":null,"more":1e2}],"system_fingerprint":"f")");
}

TEST(Verbatim, WhatOnlyWeAskedForIsHidden) {
  const char* chunk =
      R"({"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[]},"token_ids":[1]}]})";
  EXPECT_EQ(DeltaMembers(chunk, {}, false),
            R"("choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[]},"token_ids":[1]}])");
  EXPECT_EQ(DeltaMembers(chunk, {.token_ids = true, .logprobs = true}, false),
            R"("choices":[{"index":0,"delta":{"content":"a"},"logprobs":null}])");
}

TEST(Verbatim, TheRoleIsSaidOnce) {
  EXPECT_EQ(
      DeltaMembers(R"({"choices":[{"delta":{"role":"assistant","content":"a"},"index":0}]})", {}, false),
      R"("choices":[{"delta":{"content":"a"},"index":0}])");
}

TEST(Verbatim, AnEndIsToldApartFromItsDelta) {
  const char* chunk =
      R"({"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[]},"finish_reason":"eos","stop_reason":"x"}],"system_fingerprint":"f"})";
  EXPECT_EQ(
      DeltaMembers(chunk, {}, true),
      R"("choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[]},"finish_reason":null}])");
  EXPECT_EQ(
      EndMembers(chunk, {}, FinishReason::kStop, true),
      R"("choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":"x"}],"system_fingerprint":"f")");
  EXPECT_EQ(EndMembers(R"({"choices":[{"index":0,"delta":{"note":1},"finish_reason":"tool_calls"}]})", {},
                       FinishReason::kToolCalls, false),
            R"("choices":[{"index":0,"delta":{"note":1},"finish_reason":"tool_calls"}])");
  EXPECT_EQ(EndMembers(R"({"choices":[{"index":0,"text":"b","finish_reason":"length"}]})", {},
                       FinishReason::kLength, true),
            R"("choices":[{"index":0,"text":"","finish_reason":"length"}])");
}

TEST(Verbatim, Usage) {
  EXPECT_EQ(
      UsageMembers(
          R"({"id":"a","choices":[],"usage":{"total_tokens":3,"cost":0.1},"timings":{"ms":1},"performance":1})",
          false),
      R"("choices":[],"usage":{"total_tokens":3,"cost":0.1},"timings":{"ms":1})");
  EXPECT_EQ(UsageMembers(R"({"choices":[{"index":0}],"usage":{"total_tokens":3},"timings":1})", true),
            R"("choices":[],"usage":{"total_tokens":3})");
}

TEST(Verbatim, WhatIsNotPlainIsNotPassedOn) {
  EXPECT_EQ(DeltaMembers(R"({"i\u0064":"a","choices":[{"index":0,"delta":{"content":"a"}}]})", {}, false),
            "");
  EXPECT_EQ(DeltaMembers(R"({"choices":[{"ind\u0065x":1,"delta":{}}]})", {}, false), "");
  for (const char* text :
       {"", "{", "[]", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"choices\":[", "{\"choices\":[{"})
    EXPECT_EQ(DeltaMembers(text, {}, false), "") << text;
}

}  // namespace
}  // namespace cyllm::upstream
