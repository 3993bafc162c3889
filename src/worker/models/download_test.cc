#include "worker/models/download.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/models/http_test_server.h"
#include "worker/models/sha256.h"
#include "worker/models/test_folder.h"

namespace cyllm {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;
namespace fs = std::filesystem;

class DownloadTest : public testing::Test {
 protected:
  DownloadTest() {
    for (int i = 0; i < 50'000; ++i) content_ += static_cast<char>(i * 31 % 251);
  }
  Status Get(const std::string& url, const std::string& sha256 = "", const std::string& token = "") {
    DownloadOptions options{url, token, sha256, 3, std::chrono::milliseconds(1)};
    return Download(options, target_, [this](const FetchProgress& p) {
      last_ = p;
      return !stop_;
    });
  }
  // What a server with ranges answers.
  TestAnswer Ranged(const std::string& head) const {
    const size_t at = head.find("Range: bytes=");
    if (at == std::string::npos) return {200, content_};
    const size_t from = std::stoul(head.substr(at + 13));
    const std::string size = std::to_string(content_.size());
    if (from >= content_.size()) return {416, "", {"Content-Range: bytes */" + size}};
    return {206,
            content_.substr(from),
            {"Content-Range: bytes " + std::to_string(from) + "-" + std::to_string(content_.size() - 1) +
             "/" + size}};
  }
  std::string Sha256() {
    WriteFile(folder_ / "content", content_);
    return *Sha256OfFile(folder_ / "content");
  }

  TestFolder folder_;
  const std::string target_ = folder_ / "model.gguf", part_ = target_ + ".part";
  std::string content_;
  FetchProgress last_;
  bool stop_ = false;
};

TEST_F(DownloadTest, FetchesAndChecks) {
  HttpTestServer server([&](const std::string& head) { return Ranged(head); });
  const Status status = Get(server.url("/m"), Sha256());
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(ReadFile(target_), content_);
  EXPECT_FALSE(fs::exists(part_));
  EXPECT_EQ(last_.done, content_.size());
  EXPECT_EQ(last_.total, content_.size());
}

TEST_F(DownloadTest, GoesOnWhereTheConnectionBroke) {
  int requests = 0;
  HttpTestServer server([&](const std::string& head) {
    TestAnswer answer = Ranged(head);
    if (++requests <= 4) answer.cut = 10'000;  // more breaks than attempts: each made progress
    return answer;
  });
  const Status status = Get(server.url("/m"), Sha256());
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(ReadFile(target_), content_);
  const auto seen = server.seen();
  ASSERT_THAT(seen, SizeIs(5));
  EXPECT_THAT(seen[0], Not(HasSubstr("Range:")));
  EXPECT_THAT(seen[1], HasSubstr("Range: bytes=10000-"));
  EXPECT_THAT(seen[4], HasSubstr("Range: bytes=40000-"));
}

TEST_F(DownloadTest, StartsAnewWhereTheServerHasNoRanges) {
  WriteFile(part_, content_.substr(0, 777));
  HttpTestServer server([&](const std::string&) { return TestAnswer{200, content_}; });
  ASSERT_TRUE(Get(server.url("/m"), Sha256()).ok());
  EXPECT_EQ(ReadFile(target_), content_);
}

TEST_F(DownloadTest, WithoutRangesAndNeverWholeItGivesUp) {
  HttpTestServer server([&](const std::string&) { return TestAnswer{200, content_, {}, 10'000}; });
  EXPECT_EQ(Get(server.url("/m")).code, Code::kUnavailable);
  EXPECT_LE(server.seen().size(), 5u);
}

TEST_F(DownloadTest, AllOfItWasThereAlready) {
  WriteFile(part_, content_);
  HttpTestServer server([&](const std::string& head) { return Ranged(head); });
  ASSERT_TRUE(Get(server.url("/m")).ok());
  EXPECT_EQ(ReadFile(target_), content_);
}

TEST_F(DownloadTest, WhatIsThereIsOfALongerFile) {
  WriteFile(part_, content_ + "and more");
  HttpTestServer server([&](const std::string& head) { return Ranged(head); });
  ASSERT_TRUE(Get(server.url("/m")).ok());
  EXPECT_EQ(ReadFile(target_), content_);
}

TEST_F(DownloadTest, WrongChecksumLeavesNothing) {
  HttpTestServer server([&](const std::string& head) { return Ranged(head); });
  const Status status = Get(server.url("/m"), std::string(64, '0'));
  EXPECT_EQ(status.code, Code::kFailedPrecondition);
  EXPECT_THAT(status.message, HasSubstr("SHA-256"));
  EXPECT_FALSE(fs::exists(target_));
  EXPECT_FALSE(fs::exists(part_));
}

TEST_F(DownloadTest, TheHubsHashIsChecked) {
  std::string hash = std::string(64, 'A');
  HttpTestServer server(
      [&](const std::string&) { return TestAnswer{200, content_, {"X-Linked-Etag: \"" + hash + "\""}}; });
  EXPECT_EQ(Get(server.url("/m")).code, Code::kFailedPrecondition);
  hash = Sha256();
  EXPECT_TRUE(Get(server.url("/m")).ok());
}

TEST_F(DownloadTest, RefusalsAreNotRepeated) {
  for (const auto& [http, code] : {std::pair{404, Code::kNotFound},
                                   {410, Code::kNotFound},
                                   {401, Code::kPermissionDenied},
                                   {403, Code::kPermissionDenied},
                                   {400, Code::kUnavailable}}) {
    HttpTestServer server([status = http](const std::string&) { return TestAnswer{status, "no"}; });
    const Status status = Get(server.url("/m"));
    EXPECT_EQ(status.code, code) << http;
    EXPECT_THAT(status.message, HasSubstr(std::to_string(http)));
    EXPECT_THAT(server.seen(), SizeIs(1));
    EXPECT_FALSE(fs::exists(target_));
  }
}

TEST_F(DownloadTest, TemporaryErrorsAreRepeatedABoundedNumberOfTimes) {
  int requests = 0;
  HttpTestServer recovers(
      [&](const std::string& head) { return ++requests < 3 ? TestAnswer{503, "busy"} : Ranged(head); });
  EXPECT_TRUE(Get(recovers.url("/m")).ok());
  EXPECT_EQ(ReadFile(target_), content_);  // and not the error's body
  HttpTestServer broken([](const std::string&) { return TestAnswer{500, "broken"}; });
  EXPECT_EQ(Get(broken.url("/m")).code, Code::kUnavailable);
  EXPECT_THAT(broken.seen(), SizeIs(3));
}

TEST_F(DownloadTest, TheTokenStaysWithItsHost) {
  HttpTestServer storage([&](const std::string& head) { return Ranged(head); });
  HttpTestServer hub(
      [&](const std::string&) { return TestAnswer{302, "", {"Location: " + storage.url("/blob")}}; });
  ASSERT_TRUE(Get(hub.url("/m"), "", "secret-token").ok());
  EXPECT_EQ(ReadFile(target_), content_);
  EXPECT_THAT(hub.seen().at(0), HasSubstr("Authorization: Bearer secret-token"));
  EXPECT_THAT(storage.seen().at(0), Not(HasSubstr("secret-token")));
}

TEST_F(DownloadTest, RedirectsInACircleEnd) {
  HttpTestServer server([](const std::string&) { return TestAnswer{302, "", {"Location: /again"}}; });
  EXPECT_FALSE(Get(server.url("/m")).ok());
  EXPECT_THAT(server.seen(), SizeIs(11));
}

TEST_F(DownloadTest, StoppedKeepsWhatCame) {
  HttpTestServer server([&](const std::string& head) { return Ranged(head); });
  stop_ = true;
  EXPECT_EQ(Get(server.url("/m")).code, Code::kCancelled);
  EXPECT_FALSE(fs::exists(target_));
  stop_ = false;
  ASSERT_TRUE(Get(server.url("/m"), Sha256()).ok());
}

}  // namespace
}  // namespace cyllm
