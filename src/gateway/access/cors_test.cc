#include "gateway/access/cors.h"

#include <gtest/gtest.h>

namespace cyllm {
namespace {

TEST(CorsTest, LocalPages) {
  for (const char* origin :
       {"http://localhost", "http://localhost:3000", "https://127.0.0.1:8443", "http://[::1]:80",
        "http://app.localhost:1", "tauri://localhost", "vscode-webview://abc"})
    EXPECT_TRUE(IsLocalOrigin(origin)) << origin;
  for (const char* origin : {"http://example.org", "http://localhost.example.org",
                             "http://127.0.0.1.example.org", "null", "file://", "http://", "http://[", ""})
    EXPECT_FALSE(IsLocalOrigin(origin)) << origin;
}

TEST(CorsTest, Policies) {
  EXPECT_TRUE(CorsPolicy({}).Allows(""));
  EXPECT_TRUE(CorsPolicy({}).Allows("http://localhost:1"));
  EXPECT_FALSE(CorsPolicy({}).Allows("https://a.b"));
  EXPECT_TRUE(CorsPolicy({"*"}).Allows("https://a.b"));
  const CorsPolicy one({"https://a.b"});
  EXPECT_TRUE(one.Allows("https://a.b"));
  EXPECT_FALSE(one.Allows("https://a.b.c"));
  EXPECT_FALSE(one.Allows("http://localhost"));
}

}  // namespace
}  // namespace cyllm
