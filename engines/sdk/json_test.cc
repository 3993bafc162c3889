#include "sdk/json.hpp"

#include <gtest/gtest.h>

namespace cyllm::sdk {
namespace {

TEST(JsonTest, ReadsEverything) {
  const auto root = JsonReader::Read(
      R"( {"a": [1, -2.5e3, true, null], "b": {"c": "x\n\u00e9\ud83d\ude00\"\/"}, "": ""} )");
  ASSERT_TRUE(root && root->is(Json::Type::kObject));
  const Json* a = root->Find("a");
  ASSERT_TRUE(a && a->items.size() == 4);
  EXPECT_EQ(a->items[1].number, -2500);
  EXPECT_TRUE(a->items[2].boolean);
  EXPECT_TRUE(a->items[3].is(Json::Type::kNull));
  EXPECT_EQ(root->Find("b")->Find("c")->string, "x\n\xC3\xA9\xF0\x9F\x98\x80\"/");
  EXPECT_TRUE(root->Find(""));
  EXPECT_FALSE(root->Find("d"));
  EXPECT_FALSE(a->Find("a"));
}

TEST(JsonTest, RefusesWhatIsNone) {
  for (const char* text :
       {"",          "{",      "[1,]", "{\"a\"}", "{\"a\":}", "01",      "1.",          "-",
        "1e",        "+1",     "nul",  "tru",     "\"",       "\"\\x\"", "\"\\ud800\"", "\"\\udc00\"",
        "\"\\u12\"", "\"\n\"", "{}x",  "[1 2]",   "{1:2}",    "'a'"})
    EXPECT_FALSE(JsonReader::Read(text)) << text;
  EXPECT_FALSE(JsonReader::Read("\"\xFF\""));
  EXPECT_FALSE(JsonReader::Read(std::string_view("1\0", 2)));
  EXPECT_FALSE(JsonReader::Read(std::string(100'000, '[')));
  EXPECT_TRUE(JsonReader::Read(std::string(60, '[') + std::string(60, ']')));
}

}  // namespace
}  // namespace cyllm::sdk
