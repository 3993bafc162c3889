#include "cli/settings/address.h"

#include <gtest/gtest.h>

namespace cyllm {
namespace {

TEST(Address, ParsesWhatPeopleWrite) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"127.0.0.1:8000", "127.0.0.1:8000"},
      {"worker-1.example_x:50052", "worker-1.example_x:50052"},
      {"[::1]:0", "[::1]:0"},
      {"unix:/run/x.sock", "unix:/run/x.sock"},
      {"unix:///run/x.sock", "unix:/run/x.sock"},
      {"/run/x.sock", "unix:/run/x.sock"},
      {"unix:x.sock", "unix:x.sock"},
  };
  for (const auto& [text, canonical] : cases) {
    const auto address = ParseAddress(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->ToString(), canonical);
  }
}

TEST(Address, RefusesTheRest) {
  for (const std::string& text :
       {std::string(""), std::string("8000"), std::string(":8000"), std::string("host"), std::string("host:"),
        std::string("host:x"), std::string("host:70000"), std::string("host:-1"), std::string("::1:80"),
        std::string("[host]:80"), std::string("http://host:80"), std::string("unix:"),
        std::string("unix://rel"), std::string("a b:1"), "unix:/" + std::string(108, 'x')}) {
    EXPECT_FALSE(ParseAddress(text)) << text;
  }
}

TEST(Address, KnowsWhoCanReachIt) {
  for (const char* text : {"127.0.0.1:1", "127.8.9.1:1", "localhost:1", "[::1]:1", "unix:/x"}) {
    EXPECT_FALSE(ParseAddress(text)->is_public()) << text;
  }
  for (const char* text : {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example:1", "127.0.0.1.example:1"}) {
    EXPECT_TRUE(ParseAddress(text)->is_public()) << text;
  }
  EXPECT_EQ(FirstPublic({"127.0.0.1:1", "0.0.0.0:2"}), "0.0.0.0:2");
  EXPECT_EQ(FirstPublic({"127.0.0.1:1", "unix:/x"}), "");
}

TEST(Address, ChecksSeparateListeningFromDialling) {
  EXPECT_TRUE(ListenTcpCheck().ok("127.0.0.1:0"));
  EXPECT_FALSE(ListenTcpCheck().ok("unix:/x"));
  EXPECT_TRUE(ListenAnyCheck().ok("unix:/x"));
  EXPECT_FALSE(DialCheck().ok("127.0.0.1:0"));
  EXPECT_TRUE(DialCheck().ok("/x"));
  EXPECT_FALSE(DialCheck().ok("none"));
  EXPECT_TRUE(DialOrNoneCheck().ok("none"));
  EXPECT_EQ(CanonicalAddresses({"none"}), std::vector<std::string>{});
}

}  // namespace
}  // namespace cyllm
