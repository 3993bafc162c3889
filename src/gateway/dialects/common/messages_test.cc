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

TEST(MessagesTest, ArgumentsThatAreNoObjectBecomeOne) {
  const auto mended = [](std::string_view arguments) -> std::string {
    json::array messages = {{{"role", "assistant"},
                             {"content", ""},
                             {"tool_calls", {{{"function", {{"name", "f"}, {"arguments", arguments}}}}}}}};
    if (const Status status = NormalizeMessages(messages); !status.ok()) return status.message;
    return messages[0].at("tool_calls").at(0).at("function").at("arguments").as_string().c_str();
  };
  for (const char* whole : {"{}", " {\"a\" :1.50}", R"({"a":{"b":["]"]}})"}) EXPECT_EQ(mended(whole), whole);
  EXPECT_EQ(mended(""), "{}");
  EXPECT_EQ(mended(" \n"), "{}");
  EXPECT_EQ(mended(R"({"path": "a.tx)"), R"({"INVALID_JSON":"{\"path\": \"a.tx"})");
  for (const char* other : {"{", "ls -l", "7", "null", "[1]", "\"{}\"", "{} {}"})
    EXPECT_EQ(json::parse(mended(other)).at("INVALID_JSON"), other);
  EXPECT_EQ(mended(mended("{")), mended("{"));
  const std::string deep = std::string(600, '[') + std::string(600, ']');
  EXPECT_EQ(mended(deep), deep);
}

TEST(MessagesTest, LongMessagesAreWrittenWhole) {
  for (const char c : {'a', '"', '\x01'}) {
    for (const size_t size : {0u, 5'000u, 300'000u}) {
      const json::array messages = {{{"role", "user"}, {"content", std::string(size, c)}},
                                    {{"role", "user"}, {"content", "b"}, {"more", std::string(size, c)}}};
      RequestFacts facts;
      PayloadParts parts;
      PutMessages(messages, facts, parts);
      EXPECT_TRUE(parts.messages_json == json::serialize(messages)) << size;
    }
  }
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
