#include "gateway/dialects/common/messages.h"

#include <gtest/gtest.h>

#include "gateway/dialects/common/base64.h"

namespace cyllm::dialect {
namespace {

namespace json = boost::json;

std::string Normalized(const char* text) {
  json::value messages = json::parse(text);
  const Status status = NormalizeMessages(messages.as_array());
  return status.ok() ? json::serialize(messages) : status.param;
}

TEST(MessagesTest, BecomeRegular) {
  EXPECT_EQ(
      Normalized(
          R"([{"role":"developer","content":"a"},{"role":"system","content":[{"type":"text","text":"b"}]},
      {"role":"user","content":"c"}])"),
      R"([{"role":"system","content":"a\n\nb"},{"role":"user","content":"c"}])");
  EXPECT_EQ(Normalized(R"([{"role":"assistant","content":null,"tool_calls":null,"name":null}])"),
            R"([{"role":"assistant","content":""}])");
  EXPECT_EQ(
      Normalized(R"([{"role":"assistant","tool_calls":[]},{"role":"function","name":"f","content":"x"}])"),
      R"([{"role":"assistant","content":""},{"role":"tool","name":"f","content":"x"}])");
}

TEST(MessagesTest, TwoAnswersCannotBothBeContinued) {
  EXPECT_EQ(Normalized(R"([{"role":"user","content":"a"},{"role":"assistant","content":"b"},
      {"role":"assistant","content":"c"}])"),
            "messages");
  EXPECT_EQ(Normalized(R"([{"role":"user","content":"a"},{"role":"assistant","content":"b"}])").front(), '[');
}

TEST(ToolsTest, AllowedToolsLeaveOutTheOthers) {
  const json::value tools = json::parse(
      R"([{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b"}}])");
  const json::value choice = json::parse(
      R"({"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"b"}}]}})");
  RequestFacts facts;
  PayloadParts parts;
  ASSERT_TRUE(PutTools(&tools.as_array(), &choice, facts, parts).ok());
  EXPECT_EQ(parts.tools_json, R"([{"type":"function","function":{"name":"b"}}])");
  EXPECT_EQ(parts.tool_choice_json, R"("required")");
  const json::value wrong = json::parse(
      R"({"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"function":{"name":"c"}}]}})");
  EXPECT_FALSE(PutTools(&tools.as_array(), &wrong, facts, parts).ok());
}

TEST(Base64Test, Rfc4648) {
  for (const auto& [plain, coded] :
       {std::pair{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foobar", "Zm9vYmFy"}})
    EXPECT_EQ(Base64(plain), coded);
}

}  // namespace
}  // namespace cyllm::dialect
